"""Errors of inertial units: noise, walking biases, scale errors, gravity."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from ros_attn.sim.imu import Imu, ImuErrors

NONE = replace(ImuErrors(), **{f.name: 0.0 for f in fields(ImuErrors) if f.name != "bandwidth_hz"})
REST = np.zeros((500, 3))


def test_scale_zero_measures_exactly() -> None:
    rng = np.random.default_rng(0)
    imu = Imu(6, scale=0.0)
    imu.reset(np.arange(6), rng)
    rate, force, gravity = rng.normal(size=(3, 6, 3))
    gravity /= np.linalg.norm(gravity, axis=1, keepdims=True)
    for _ in range(3):
        sample = imu.measure(rate, force, 0.02, rng)
        np.testing.assert_array_equal(sample.angular_velocity, rate)
        np.testing.assert_array_equal(sample.specific_force, force)
        np.testing.assert_allclose(imu.measure_gravity(gravity, rng), gravity, atol=1e-15)


@pytest.mark.parametrize("dt", [0.005, 0.02])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_white_noise_follows_from_the_sensors_bandwidth(dt: float, scale: float) -> None:
    """0.014 deg/s and 150 ug per root hertz over 116 Hz, at any rate of reading."""
    rng = np.random.default_rng(1)
    errors = ImuErrors()
    imu = Imu(
        500, replace(NONE, gyro_density=errors.gyro_density, accelerometer_density=errors.accelerometer_density), scale
    )
    imu.reset(np.arange(500), rng)
    samples = [imu.measure(REST, REST, dt, rng) for _ in range(50)]
    rates = np.array([sample.angular_velocity for sample in samples])
    forces = np.array([sample.specific_force for sample in samples])
    assert rates.std() == pytest.approx(scale * 2.632e-3, rel=0.01)
    assert forces.std() == pytest.approx(scale * 1.5843e-2, rel=0.01)
    assert abs(np.mean(rates[1:] * rates[:-1])) < 0.02 * rates.var()
    assert abs(np.mean(rates * forces)) < 0.02 * rates.std() * forces.std()


@pytest.mark.parametrize("dt", [0.005, 0.02])
def test_the_bias_walks_with_variance_proportional_to_time(dt: float) -> None:
    rng = np.random.default_rng(2)
    imu = Imu(500, replace(NONE, gyro_walk=1e-3, accelerometer_walk=2e-2))
    for seconds in (1.0, 2.0, 4.0):
        imu.reset(np.arange(500), rng)
        for _ in range(round(seconds / dt)):
            imu.measure(REST, REST, dt, rng)
        assert imu.gyro_bias.var() == pytest.approx(1e-6 * seconds, rel=0.12)
        assert imu.accelerometer_bias.var() == pytest.approx(4e-4 * seconds, rel=0.12)
        sample = imu.measure(REST, REST, 0.0, rng)
        np.testing.assert_array_equal(sample.angular_velocity, imu.gyro_bias)
        np.testing.assert_array_equal(sample.specific_force, imu.accelerometer_bias)


def test_reset_draws_biases_and_scale_errors_of_those_environments_alone() -> None:
    rng = np.random.default_rng(3)
    imu = Imu(2000, replace(ImuErrors(), gyro_density=0, accelerometer_density=0, gyro_walk=0, accelerometer_walk=0))
    some = np.arange(0, 2000, 2)
    imu.reset(some, rng)
    rate = np.tile([0.0, 1.0, -2.0], (2000, 1))
    force = np.tile([0.0, 0.0, 9.81], (2000, 1))
    sample = imu.measure(rate, force, 0.02, rng)
    np.testing.assert_array_equal(sample.angular_velocity[1::2], rate[1::2])
    np.testing.assert_array_equal(sample.specific_force[1::2], force[1::2])
    # 0.225 deg/s, 15 mg, and 1 % of what is measured
    error = (sample.angular_velocity - rate)[some]
    np.testing.assert_allclose(error.std(axis=0), np.hypot(3.927e-3, [0, 0.01, 0.02]), rtol=0.08)
    error = (sample.specific_force - force)[some]
    np.testing.assert_allclose(error.std(axis=0), np.hypot(0.1471, [0, 0, 0.0981]), rtol=0.08)
    again = imu.measure(rate, force, 0.02, rng)
    np.testing.assert_array_equal(again.angular_velocity, sample.angular_velocity)
    imu.reset(some[:5], rng)
    anew = imu.measure(rate, force, 0.02, rng)
    assert (anew.angular_velocity[some[:5]] != sample.angular_velocity[some[:5]]).all()
    np.testing.assert_array_equal(anew.angular_velocity[some[5:]], sample.angular_velocity[some[5:]])


def test_gravity_tilts() -> None:
    rng = np.random.default_rng(4)
    imu = Imu(4000, replace(NONE, tilt_rad=0.01, tilt_bias_rad=0.03))
    imu.reset(np.arange(4000), rng)
    level = np.tile([0.0, 0.0, -1.0], (4000, 1))
    first, second = imu.measure_gravity(level, rng), imu.measure_gravity(level, rng)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(first[:, :2].std(axis=0), np.hypot(0.03, 0.01), rtol=0.04)
    np.testing.assert_allclose((first - second)[:, :2].std(axis=0), 0.01 * np.sqrt(2), rtol=0.04)
    assert np.abs(first[:, :2].mean(axis=0)).max() < 0.002


def test_the_same_seed_gives_the_same_samples() -> None:
    def run(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        imu = Imu(500)
        imu.reset(np.arange(500), rng)
        return imu.measure(REST, REST, 0.02, rng).specific_force

    np.testing.assert_array_equal(run(1), run(1))
    assert (run(1) != run(2)).all()


def test_a_negative_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Imu(1, scale=-1.0)
