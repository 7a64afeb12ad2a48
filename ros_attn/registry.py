"""Finding components by name: a component is found, not registered; adding one is adding a file."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

from ros_attn.component import Component
from ros_attn.errors import RosAttnError, listed, meant

_SUBCLASS = re.compile(r"^class \w+\([^)]*\bComponent\b", re.MULTILINE)
PACKAGES = ("ros_attn.perception", "ros_attn.control")


def built_in() -> dict[str, str]:
    """Names of the project's own components and the modules that hold them."""
    found = {}
    for package in PACKAGES:
        paths = importlib.import_module(package).__path__
        for _, name, is_package in pkgutil.iter_modules(paths):
            module = f"{package}.{name}.component" if is_package else f"{package}.{name}"
            if _defines_a_component(module):
                found[name] = module
    return found


def _defines_a_component(module: str) -> bool:
    """Whether a module's source has a subclass of Component: parts that components share lie beside them.

    Nothing is imported for that, since some components need packages that others do without.
    """
    spec = importlib.util.find_spec(module)
    source = getattr(spec.loader, "get_source", None) if spec is not None else None
    text = source(module) if source is not None else None
    return text is not None and _SUBCLASS.search(text) is not None


def find(name: str) -> type[Component]:
    """The component class called ``name``, ``module:Class`` or ``path/to/file.py:Class``.

    Raises :class:`RosAttnError` naming the components there are, or what the module lacks.
    """
    if ":" in name:
        module_name, _, class_name = name.rpartition(":")
        module = _load_file(module_name) if module_name.endswith(".py") else _load_module(module_name, name)
        found = getattr(module, class_name, None)
        if not (isinstance(found, type) and issubclass(found, Component)):
            classes = [key for key, item in vars(module).items() if _is_component(item)]
            raise RosAttnError(
                f"{module_name} has no component {class_name!r}{meant(class_name, classes)}; "
                f"its components: {listed(classes)}."
            )
        return found
    known = built_in()
    if name not in known:
        raise RosAttnError(
            f"There is no component {name!r}{meant(name, known)}; there are {listed(known)}, "
            "and your own go by module:Class or path/to/file.py:Class."
        )
    module = _load_module(known[name], name)
    for item in vars(module).values():
        if _is_component(item) and item.kind() == name:
            return item
    raise RosAttnError(f"{known[name]} defines no Component whose snake-case name is {name!r}; rename its class.")


def _is_component(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, Component) and item is not Component


def _load_module(module_name: str, asked: str):
    sys.path.insert(0, "")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise RosAttnError(f"Component {asked!r}: there is no module {module_name!r} on the Python path.") from None
        extra = "control" if module_name.startswith("ros_attn.control") else "perception"
        raise RosAttnError(
            f"Component {asked!r} needs the Python package {error.name!r}; "
            f"install it, for example with: pip install 'ros-attn[{extra}]'."
        ) from None
    finally:
        sys.path.remove("")


def _load_file(path_text: str):
    path = Path(path_text)
    if not path.is_file():
        raise RosAttnError(f"There is no file {path} to take a component from.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
