"""The simulated drive: determinism, geometry, haze, thermal radiation, inertial stream, backends."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from ros_attn.errors import ParameterError, RosAttnError  # noqa: E402
from ros_attn.sim import street_rendering, weather  # noqa: E402
from ros_attn.sim.drive import (  # noqa: E402
    CLASS_NAMES,
    Drive,
    DriveConfig,
    ImuSample,
    OdometrySample,
    ThermalFrame,
    VisibleFrame,
    WheelSample,
)
from ros_attn.sim.street_geometry import SegmentationClass  # noqa: E402
from ros_attn.sim.thermal import apparent_temperature, radiance, thermal_counts  # noqa: E402

SMALL = DriveConfig(
    width=160, height=120, thermal_width=128, thermal_height=96, duration_s=6.0, thermal_delay_s=0.0, seed=3
)
ALIGNED = replace(
    SMALL,
    width=240,
    height=180,
    thermal_width=240,
    thermal_height=180,
    thermal_fovy_deg=SMALL.fovy_deg,
    baseline_m=0.0,
    noise=0.0,
)


@pytest.fixture(scope="module")
def drive() -> Iterator[Drive]:
    """The first backend that works here, cameras aligned, no visible sensor noise."""
    with Drive(ALIGNED) as made:
        yield made


@pytest.fixture(scope="module")
def rays() -> Iterator[Drive]:
    """The same drive by rays."""
    with Drive(ALIGNED, backend="rays") as made:
        yield made


@functools.cache
def first_digest(config: DriveConfig, backend: str | None) -> str:
    """The digest, computed once for all tests."""
    return digest(config, backend)


def digest(config: DriveConfig, backend: str | None) -> str:
    """One hash over two frames of each camera and a few samples."""
    with Drive(config, backend) as drive:
        parts: list[bytes] = []
        for index in (2, 25):
            visible, thermal = drive.visible_frame(index), drive.thermal_frame(index)
            parts += [visible.rgb.tobytes(), visible.rgb_clear.tobytes(), visible.depth_m.tobytes()]
            parts += [visible.segmentation.tobytes(), visible.T_world_camera.tobytes()]
            parts += [thermal.thermal_k.tobytes(), thermal.depth_m.tobytes(), thermal.segmentation.tobytes()]
        parts += [sample.angular_velocity.tobytes() for sample in drive.imu_samples()]
        parts += [sample.specific_force.tobytes() for sample in drive.imu_samples()]
        parts += [np.float64(sample.speed_mps).tobytes() for sample in drive.wheel_samples()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("backend", [None, "rays"])
def test_a_seed_fixes_the_bytes(backend: str | None) -> None:
    first = first_digest(SMALL, backend)
    assert digest(SMALL, backend) == first
    assert digest(replace(SMALL, seed=4), backend) != first


def test_another_process_gives_the_same_bytes() -> None:
    command = [sys.executable, "-c", _DIGEST_CODE, __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == first_digest(SMALL, None)


_DIGEST_CODE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("drive_digest", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest(module.SMALL, None))
"""


def test_frames_do_not_depend_on_the_order_they_are_drawn_in(drive: Drive) -> None:
    first = drive.visible_frame(7)
    drive.thermal_frame(20)
    again = drive.visible_frame(7)
    assert np.array_equal(first.rgb, again.rgb)
    assert np.array_equal(first.depth_m, again.depth_m)


def test_haze_formula() -> None:
    clear = np.array([[[200.0, 100.0, 40.0], [20.0, 30.0, 90.0]]], np.float32)
    hazed = weather.hazed(clear, np.full((1, 2), 25.0, np.float32), 0.05)
    t = np.exp(-1.25)
    assert hazed == pytest.approx(clear * t + weather.AIRLIGHT * (1 - t), abs=1e-3)
    contrast = (hazed[0, 0] - hazed[0, 1]) / (clear[0, 0] - clear[0, 1])
    assert contrast == pytest.approx(np.full(3, 0.286505), abs=1e-5)  # exp(-1.25)
    # at the meteorological visibility 3.912/beta a contrast of 1 has fallen to 2 %
    assert np.exp(-0.05 * (3.912 / 0.05)) == pytest.approx(0.02, abs=1e-4)
    assert weather.hazed(clear, np.full((1, 2), 25.0, np.float32), 0.0) == pytest.approx(clear, abs=1e-4)


def test_haze_profile_comes_and_goes() -> None:
    points = ((0.0, 0.0), (0.5, 0.08), (1.0, 0.02))
    assert weather.haze_profile(points, 0.0) == 0.0
    assert weather.haze_profile(points, 0.25) == pytest.approx(0.04)
    assert weather.haze_profile(points, 0.5) == pytest.approx(0.08)
    assert weather.haze_profile(points, 0.75) == pytest.approx(0.05)
    assert weather.haze_profile(points, 2.0) == pytest.approx(0.02)


def test_low_light_noise_has_the_stated_spread() -> None:
    image = np.full((200, 200, 3), 128.0, np.float32)
    seen = weather.exposed(image, 1.0, np.random.default_rng(0)).astype(float)
    assert seen.mean() == pytest.approx(128.0, abs=0.05)
    assert seen.std() == pytest.approx(np.sqrt(4 + 128 / 16 + 1 / 12), rel=0.02)  # 1/12: rounding


def test_frames_carry_the_haze_they_state(drive: Drive) -> None:
    frame = drive.visible_frame(31)
    assert frame.haze_beta > 0.05
    solid = np.isfinite(frame.depth_m)
    expected = weather.hazed(frame.rgb_clear, np.where(solid, frame.depth_m, 0), frame.haze_beta)
    assert np.abs(frame.rgb[solid] - expected[solid]).max() <= 0.51
    assert frame.rgb[~solid].std() < frame.rgb_clear[~solid].std()


def contrast(image: np.ndarray, person: np.ndarray, road: np.ndarray) -> float:
    return float(np.abs(image[person].mean(axis=0) - image[road].mean(axis=0)).max())


def test_people_are_warm_and_haze_hides_them_from_the_visible_camera_only(drive: Drive) -> None:
    beta = 0.06
    losses, kept, warmer = [], [], []
    with Drive(replace(ALIGNED, haze=((0.0, beta), (1.0, beta)))) as hazy:
        for index in (5, 10, 50, 55):  # where the other drive has next to no haze
            seen = hazy.visible_frame(index)
            warm, through = drive.thermal_frame(index), hazy.thermal_frame(index)
            assert warm.haze_beta < 0.008
            person = seen.segmentation == SegmentationClass.PERSON
            z = float(np.median(seen.depth_m[person]))
            person &= np.abs(seen.depth_m - z) < 1.0
            road = (seen.segmentation == SegmentationClass.ROAD) & (np.abs(seen.depth_m - z) < 1.0)
            assert person.sum() > 20
            assert road.sum() > 20
            loss = contrast(seen.rgb.astype(float), person, road) / contrast(seen.rgb_clear.astype(float), person, road)
            losses.append(loss / np.exp(-beta * z))
            kept.append(contrast(through.thermal_k, person, road) / contrast(warm.thermal_k, person, road))
            warmer.append(warm.thermal_k[person].mean() - warm.thermal_k[road].mean())
    assert min(warmer) > 6.0
    assert min(kept) > 0.93
    assert max(kept) < 1.02
    assert losses == pytest.approx([1.0] * len(losses), abs=0.12)


def test_depth_of_the_road_is_that_of_the_plane(drive: Drive) -> None:
    frame = drive.visible_frame(12)
    ray = drive.visible.rays @ frame.T_world_camera[:3, :3].T
    road = (frame.segmentation == SegmentationClass.ROAD) & (frame.depth_m < 60)
    analytic = -frame.T_world_camera[2, 3] / ray[..., 2]  # depth at which the ray meets z = 0
    error = np.abs(frame.depth_m[road] / analytic[road] - 1)
    assert road.sum() > 7000
    assert np.quantile(error, 0.99) < 0.005  # paint is 3 mm high, the camera 1.35 m
    assert np.isinf(frame.depth_m[frame.segmentation == SegmentationClass.SKY]).all()
    assert np.isfinite(frame.depth_m[frame.segmentation != SegmentationClass.SKY]).all()


def project(drive: Drive, frame: VisibleFrame, point: np.ndarray) -> tuple[int, int, float]:
    """Column, row and depth of a point of the world."""
    x, y, z = (np.linalg.inv(frame.T_world_camera) @ np.append(point, 1.0))[:3]
    u, v, _ = drive.visible.K @ np.array([x / z, y / z, 1.0])
    return round(u), round(v), float(z)


def test_known_points_project_onto_their_objects(drive: Drive) -> None:
    heads, poles = 0, 0
    for index in range(4, 60, 4):
        frame = drive.visible_frame(index)
        data = mujoco.MjData(drive.street.model)
        drive.street.pose(data, index / ALIGNED.visible_hz, frame.T_world_base)
        heads_at = [data.geom(f"pedestrian_{k}_head").xpos for k in range(10)]
        poles_at = [np.add(base, [0, 0, 2.2]) for base in drive.street.lamp_bases]
        # with the half width of each: it must span more than a pixel
        points = [(point, 0.08, SegmentationClass.PERSON) for point in heads_at]
        points += [(point, 0.055, SegmentationClass.POLE) for point in poles_at]
        for point, radius, kind in points:
            u, v, z = project(drive, frame, point)
            inside = 0 <= u < ALIGNED.width and 0 <= v < ALIGNED.height
            if not (inside and 1.0 < z < radius * drive.visible.K[0, 0] / 0.6):
                continue
            if frame.depth_m[v, u] < z - 0.2:
                continue  # something stands before it
            assert frame.segmentation[v, u] == kind
            assert frame.depth_m[v, u] == pytest.approx(z, abs=0.2)
            heads += kind == SegmentationClass.PERSON
            poles += kind == SegmentationClass.POLE
    assert heads >= 20
    assert poles >= 5


def test_optical_frame_and_camera_matrix(drive: Drive) -> None:
    frame = drive.visible_frame(0)
    rotation = frame.T_world_camera[:3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert rotation[:, 2] @ [1, 0, 0] > 0.99  # z forward along the street
    assert rotation[:, 0] @ [0, -1, 0] > 0.99  # x to the right
    assert rotation[:, 1] @ [0, 0, -1] > 0.99  # y down
    assert frame.T_world_camera == pytest.approx(frame.T_world_base @ drive.visible.T_base_camera)
    K, camera = drive.visible.K, drive.visible
    assert np.degrees(2 * np.arctan(camera.height / 2 / K[1, 1])) == pytest.approx(ALIGNED.fovy_deg)
    assert (K[0, 2], K[1, 2]) == ((camera.width - 1) / 2, (camera.height - 1) / 2)
    # MuJoCo's camera stands at the same pose
    data = mujoco.MjData(drive.street.model)
    drive.street.pose(data, 0.0, frame.T_world_base)
    index = drive.street.model.camera("visible").id
    assert data.cam_xpos[index] == pytest.approx(frame.T_world_camera[:3, 3], abs=1e-9)
    assert data.cam_xmat[index].reshape(3, 3) @ np.diag([1, -1, -1]) == pytest.approx(rotation, abs=1e-9)


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-15)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def integrated(drive: Drive) -> tuple[float, float]:
    """Final position error in metres and heading error in degrees of strapdown integration at 100 Hz."""
    samples, truth = list(drive.imu_samples()), list(drive.odometry_samples())
    rotation, position = truth[0].T_world_base[:3, :3].copy(), truth[0].T_world_base[:3, 3].copy()
    velocity = rotation @ truth[0].linear_velocity
    gravity = np.array([0, 0, -9.80665])
    for now, then in pairwise(samples):
        dt = (then.stamp_ns - now.stamp_ns) * 1e-9
        turned = rotation @ rotation_of((now.angular_velocity + then.angular_velocity) / 2 * dt)
        acceleration = (rotation @ now.specific_force + turned @ then.specific_force) / 2 + gravity
        position += velocity * dt + acceleration * dt**2 / 2
        velocity += acceleration * dt
        rotation = turned
    last = next(s for s in truth if s.stamp_ns == samples[-1].stamp_ns)
    relative = rotation.T @ last.T_world_base[:3, :3]
    heading = np.degrees(np.arctan2(relative[1, 0], relative[0, 0]))
    return float(np.linalg.norm(position - last.T_world_base[:3, 3])), abs(float(heading))


def test_inertial_stream_integrates_to_the_odometry() -> None:
    config = replace(SMALL, duration_s=10.0, odometry_hz=100.0)
    with Drive(replace(config, inertial_noise=0.0), backend="rays") as ideal:
        position, heading = integrated(ideal)
        assert position < 0.02
        assert heading < 0.005
        travelled = list(ideal.odometry_samples())[-1].T_world_base[0, 3]
        assert travelled == pytest.approx(42, abs=3)
        assert max(abs(s.angular_velocity[2]) for s in ideal.imu_samples()) > 0.1  # it does turn
        speed = np.array([s.speed_mps for s in ideal.wheel_samples()])
        assert speed.min() < 1.5 < 4.8 < speed.max()  # it brakes for the crossing
        assert speed.sum() / config.wheel_hz == pytest.approx(travelled, rel=0.01)
    with Drive(config, backend="rays") as noisy:
        position, heading = integrated(noisy)
        assert 0.01 < position < 2.0  # a bias of 0.012 m/s^2 alone gives 0.6 m in 10 s
        assert heading < 0.5
        at_rest = np.mean([s.specific_force[2] for s in noisy.imu_samples()])
        assert at_rest == pytest.approx(9.80665, abs=0.1)


def away_from_edges(numbers: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours show the same number."""
    same = np.ones(numbers.shape, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            same &= np.roll(numbers, (dy, dx), (0, 1)) == numbers
    same[[0, -1]] = same[:, [0, -1]] = False
    return same


def test_rays_agree_with_the_rasteriser(drive: Drive, rays: Drive) -> None:
    if drive.backend == "rays":
        pytest.skip(f"nothing to compare with: {drive.backend_reason}")
    for index in (5, 30, 52):
        raster, cast = drive.visible_frame(index), rays.visible_frame(index)
        inner = away_from_edges(raster.segmentation)
        agree = raster.segmentation == cast.segmentation
        assert inner.mean() > 0.6
        assert agree[inner].mean() > 0.97
        assert agree.mean() > 0.97
        both = inner & agree & np.isfinite(raster.depth_m)
        relative = np.abs(cast.depth_m[both] / raster.depth_m[both] - 1)
        assert np.quantile(relative, 0.97) < 0.01
        difference = np.abs(raster.rgb_clear[inner].astype(float) - cast.rgb_clear[inner])
        assert difference.mean() < 16  # no contact shadows, no filtering of textures
        thermal = drive.thermal_frame(index).thermal_k - rays.thermal_frame(index).thermal_k
        assert np.abs(thermal[inner]).mean() < 0.2


def test_an_aligned_thermal_camera_shares_the_geometry(drive: Drive) -> None:
    visible, shared = drive.visible_frame(9), drive.thermal_frame(9)
    assert shared.depth_m is visible.depth_m
    drive.visible_frame(8)
    alone = drive.thermal_frame(9)
    assert alone.depth_m is not visible.depth_m
    assert np.array_equal(alone.thermal_k, shared.thermal_k)


def test_planck_table_and_counts() -> None:
    kelvin = np.array([250.0, 300.0, 330.1])
    assert apparent_temperature(radiance(kelvin)) == pytest.approx(kelvin, abs=1e-3)
    # the share of a black body's radiance below a wavelength as the series in x = c2/(lambda T)
    n = np.arange(1, 60)

    def band(t: float) -> float:
        below = [
            np.sum(np.exp(-n * x) * (x**3 / n + 3 * x**2 / n**2 + 6 * x / n**3 + 6 / n**4))
            for x in 14387.769 / (np.array([8.0, 14.0]) * t)
        ]
        return t**4 * (below[1] - below[0])

    ratio = radiance(kelvin) / radiance(np.array([300.0]))
    assert ratio == pytest.approx([band(t) / band(300.0) for t in kelvin], rel=2e-4)
    counts = thermal_counts(np.array([300.0, 305.004, 0.0, 900.0]))
    assert counts.dtype == np.uint16
    assert counts.tolist() == [30000, 30500, 0, 65535]


def test_thermal_noise_has_the_stated_netd(drive: Drive) -> None:
    flat = np.full((ALIGNED.thermal_height, ALIGNED.thermal_width), 290.0, np.float32)
    one, two = drive._core.detected(flat, 0), drive._core.detected(flat, 1)
    assert (one - two).std() / np.sqrt(2) == pytest.approx(ALIGNED.netd_k, rel=0.03)
    assert one.mean() == pytest.approx(290.0, abs=0.01)
    assert one.dtype == np.float32


def test_events_come_in_stamp_order_and_complete() -> None:
    tiny = {"width": 64, "height": 48, "thermal_width": 64, "thermal_height": 48}
    config = replace(SMALL, duration_s=1.0, thermal_hz=9.0, **tiny)
    with Drive(config, backend="rays") as drive:
        events = list(drive.events())
        T_visible_thermal = np.linalg.inv(drive.visible.T_base_camera) @ drive.thermal.T_base_camera
    assert T_visible_thermal[:3, 3] == pytest.approx([-config.baseline_m, 0, 0])  # to the left
    assert T_visible_thermal[:3, :3] == pytest.approx(np.eye(3))
    stamps = [event.stamp_ns for event in events]
    assert stamps == sorted(stamps)
    assert stamps[0] == config.start_ns
    kinds = [VisibleFrame, ThermalFrame, ImuSample, WheelSample, OdometrySample]
    counts = [sum(isinstance(event, kind) for event in events) for kind in kinds]
    assert counts == [10, 9, 100, 50, 50]
    thermal = [event for event in events if isinstance(event, ThermalFrame)]
    assert {b.stamp_ns - a.stamp_ns for a, b in pairwise(thermal)} <= {111_111_111, 111_111_112}
    assert thermal[0].thermal_k.shape == (48, 64)
    assert thermal[0].thermal_k.dtype == np.float32


def test_frames_show_the_street(drive: Drive) -> None:
    frame = drive.visible_frame(16)
    assert frame.rgb.dtype == frame.rgb_clear.dtype == np.uint8
    assert frame.depth_m.dtype == np.float32
    assert frame.segmentation.dtype == np.int32
    shown = {CLASS_NAMES[int(k)] for k in np.unique(frame.segmentation)}
    assert shown >= {"sky", "road", "pavement", "building", "car", "person", "cyclist", "vegetation", "pole"}
    assert 60 < frame.rgb_clear.mean() < 180
    assert drive.backend in street_rendering.BACKENDS
    assert drive.backend_reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 8),
        ("width", 320.5),
        ("height", True),
        ("fovy_deg", 179.0),
        ("duration_s", 0.0),
        ("duration_s", float("nan")),
        ("visible_hz", -1.0),
        ("seed", -1),
        ("thermal_delay_s", 3.0),
        ("haze", ((0.0, 0.01),)),
        ("haze", ((0.0, 0.01), (0.0, 0.02))),
        ("haze", ((0.0, 0.01), (1.0, 2.0))),
    ],
)
def test_bad_values_are_refused_with_a_sentence(field: str, value: object) -> None:
    with pytest.raises(ParameterError, match=rf"DriveConfig\.{field} is .*: give "):
        DriveConfig(**{field: value})  # pyright: ignore[reportArgumentType]


def test_backend_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RosAttnError, match="choose one of egl, osmesa, rays"):
        street_rendering.choose_backend("vulkan")
    monkeypatch.setattr(street_rendering, "_gl_fault", lambda name: f"lib{name} is missing")
    name, reason = street_rendering.choose_backend(None)
    assert name == "rays"
    assert "libegl is missing" in reason
    assert "libosmesa is missing" in reason
    with pytest.raises(RosAttnError, match="'osmesa' does not work here"):
        street_rendering.choose_backend("osmesa")
    monkeypatch.setattr(street_rendering, "_gl_fault", lambda name: "")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert street_rendering.choose_backend(None)[0] == "egl"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert street_rendering.choose_backend(None)[0] == "osmesa"
