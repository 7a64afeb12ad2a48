"""The preprocessing of depth images, simulated and real."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.control.depth_image import field_window, metres, preprocess
from ros_attn.errors import MessageError, ParameterError

NEAR, FAR = 0.1, 2.0


def reference_blur(value: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Normalised convolution by loops."""
    out = np.zeros(value.shape)
    for row in range(value.shape[0]):
        for column in range(value.shape[1]):
            total = weight = 0.0
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    r, c = row + i, column + j
                    if 0 <= r < value.shape[0] and 0 <= c < value.shape[1] and valid[r, c]:
                        kernel = (2 - abs(i)) * (2 - abs(j))
                        total, weight = total + kernel * value[r, c], weight + kernel
            out[row, column] = total / weight if weight else 0.0
    return out


def test_metres_of_both_encodings() -> None:
    counts = np.array([[0, 1, 1500], [65535, 250, 100]], np.uint16)
    np.testing.assert_allclose(metres(counts, "16UC1"), [[0, 0.001, 1.5], [65.535, 0.25, 0.1]], rtol=1e-6)
    values = np.array([[0, np.nan, 1.5], [np.inf, -np.inf, -0.2]], np.float32)
    np.testing.assert_array_equal(metres(values, "32FC1"), np.array([[0, 0, 1.5], [0, 0, 0]], np.float32))
    assert metres(counts, "16UC1").dtype == np.float32
    with pytest.raises(MessageError, match="encoding 'mono8' is not a depth"):
        metres(counts, "mono8")


@pytest.mark.parametrize(
    ("depth_m", "expected"), [(0.1, -0.5), (1.05, 0.0), (2.0, 0.5), (0.05, -0.5), (7.0, 0.5), (0.575, -0.25)]
)
@pytest.mark.parametrize("size", [(48, 64), (480, 848), (37, 51), (24, 32)])
def test_near_is_minus_a_half_and_far_a_half(depth_m: float, expected: float, size: tuple[int, int]) -> None:
    image, valid = preprocess(np.full((2, *size), depth_m, np.float32), NEAR, FAR)
    assert image.shape == (2, 48, 64)
    assert valid.shape == (2, 6, 8)
    assert image.dtype == valid.dtype == np.float32
    np.testing.assert_allclose(image, expected, atol=2e-6)
    assert (valid == 1).all()


def test_blur_and_holes_at_the_policys_size() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.05, 2.5, (48, 64)).astype(np.float32)
    holes = rng.random((48, 64)) < 0.6
    holes[20:26, 30:40] = True
    depth[holes] = rng.choice(np.array([0, np.nan, np.inf, -np.inf, -1], np.float32), holes.sum())
    image, valid = preprocess(depth, NEAR, FAR)
    value = np.where(holes, 0, (np.clip(depth, NEAR, FAR) - NEAR) / (FAR - NEAR) - 0.5)
    np.testing.assert_allclose(image, reference_blur(value, ~holes), atol=1e-5)
    assert (image[21:25, 31:39] == 0).all()
    for row in range(6):
        for column in range(8):
            cell = holes[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert valid[row, column] == pytest.approx(1 - cell.mean(), abs=1e-6)


def test_resizing_averages_the_valid_part_by_area() -> None:
    rng = np.random.default_rng(1)
    depth = rng.uniform(0.3, 1.8, (96, 192)).astype(np.float32)
    holes = rng.random(depth.shape) < 0.45
    depth[holes] = 0
    blocks, gone = depth.reshape(48, 2, 64, 3), holes.reshape(48, 2, 64, 3)
    share = 1 - gone.mean(axis=(1, 3))
    known = share >= 0.5
    mean = np.divide(blocks.sum(axis=(1, 3)), 6 * share, out=np.zeros((48, 64)), where=known)
    image, valid = preprocess(depth, NEAR, FAR)
    np.testing.assert_allclose(image, reference_blur((mean - NEAR) / (FAR - NEAR) - 0.5, known), atol=1e-5)
    np.testing.assert_allclose(valid, known.reshape(6, 8, 8, 8).mean(axis=(1, 3)), atol=1e-6)
    assert 0.4 < known.mean() < 0.9


def test_uneven_resizing_keeps_a_ramp() -> None:
    ramp = np.broadcast_to(0.5 + np.arange(100) / 100, (75, 100)).astype(np.float32)
    image, _ = preprocess(ramp, NEAR, FAR)
    centre = (np.arange(64) + 0.5) * 100 / 64 - 0.5
    expected = (0.5 + centre / 100 - NEAR) / (FAR - NEAR) - 0.5
    np.testing.assert_allclose(image[24, 1:-1], expected[1:-1], atol=2e-3)


def test_an_image_without_a_measurement() -> None:
    image, valid = preprocess(np.zeros((480, 640), np.float32), NEAR, FAR)
    assert (image == 0).all()
    assert (valid == 0).all()


def test_the_window_of_a_field_of_view() -> None:
    """848 x 480 pixels of a D435 show 87 x 58 degrees, 640 x 480 of the same lens less to the sides."""
    fx = 424 / np.tan(np.deg2rad(43.5))
    k = np.array([[fx, 0, 423.5], [0, 240 / np.tan(np.deg2rad(29)), 239.5], [0, 0, 1]])
    np.testing.assert_allclose(field_window(k, np.deg2rad(87), np.deg2rad(58)), (0, 0, 848, 480), atol=1e-9)
    k[0, 2] = 319.5
    window = field_window(k, np.deg2rad(87), np.deg2rad(58))
    np.testing.assert_allclose(window, (-104, 0, 744, 480), atol=1e-9)
    image, valid = preprocess(np.full((480, 640), 1.05, np.float32), NEAR, FAR, window)
    # 104 columns are 7.85 of the 64
    np.testing.assert_allclose(image[:, 8:56], 0, atol=1e-6)
    np.testing.assert_allclose(valid[:, 0], 0.0, atol=0.13)
    np.testing.assert_allclose(valid[:, 1:7], 1, atol=1e-6)
    with pytest.raises(ParameterError, match="no focal length"):
        field_window(np.zeros((3, 3)), 1.0, 1.0)


def test_a_window_looks_where_it_says() -> None:
    depth = np.full((100, 200), 1.9, np.float32)
    depth[20:60, 50:130] = 0.3
    image, _ = preprocess(depth, NEAR, FAR, (50.0, 20.0, 130.0, 60.0))
    np.testing.assert_allclose(image, (0.3 - NEAR) / (FAR - NEAR) - 0.5, atol=1e-6)


def test_a_full_size_camera_gives_what_the_training_camera_gives() -> None:
    """One scene, rays at 848 x 480 and at 64 x 48: alike but for the pixels at edges."""
    mujoco = pytest.importorskip("mujoco")
    from mujoco.batch import Batch

    from ros_attn.sim.depth_camera import DepthCamera

    boxes = "".join(
        f'<geom type="box" pos="{0.9 + 0.3 * i} 0 {0.08 + 0.16 * i}" size="0.15 0.5 0.08"/>' for i in range(6)
    )
    xml = f'<mujoco><worldbody><geom type="plane" size="0 0 1"/>{boxes}</worldbody></mujoco>'
    batch = Batch(mujoco.MjModel.from_xml_string(xml), 1, 1)
    pose = np.array([[0.0, 0.0, 0.35]]), np.array([[0.99, 0.02, 0.03, 0.1]])
    small = DepthCamera((0.33, 0.0, 0.05), 0.5)
    large = DepthCamera((0.33, 0.0, 0.05), 0.5, width=848, height=480)
    low, _ = preprocess(small.render(batch, None, *pose), NEAR, FAR)
    millimetres = np.rint(1000 * large.render(batch, None, *pose)).astype(np.uint16)
    high, valid = preprocess(metres(millimetres, "16UC1"), NEAR, FAR)
    assert (valid == 1).all()
    error = np.abs(low - high)
    assert np.median(error) < 1e-3
    assert np.quantile(error, 0.9) < 0.02
    assert low.std() > 0.1


def test_errors() -> None:
    with pytest.raises(ParameterError, match="near_m < far_m"):
        preprocess(np.ones((48, 64), np.float32), 2.0, 0.1)
    with pytest.raises(MessageError, match="is no image"):
        preprocess(np.ones(64, np.float32), 0.1, 2.0)
