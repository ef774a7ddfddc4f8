import pytest
import torch

from puriflow.diffusion.schedule import Schedule, space_timesteps
from puriflow.purifiers.ddpm import DDPM

GROUPS = {"full": 1000, "r250": 250}


@pytest.mark.parametrize("tag", GROUPS)
def test_schedules(fixture, tag):
    f = fixture("adm-diffusion")
    schedule = Schedule(space_timesteps(GROUPS[tag]))
    for name, array in {
        "betas": schedule.betas,
        "alphas_cumprod": schedule.alpha_bar,
        "alphas_cumprod_prev": schedule.alpha_bar_prev,
        "posterior_variance": schedule.posterior_variance,
        "posterior_log_variance_clipped": schedule.posterior_log_variance,
        "posterior_mean_coef1": schedule.posterior_mean_coef1,
        "posterior_mean_coef2": schedule.posterior_mean_coef2,
        "sqrt_recip_alphas_cumprod": 1 / schedule.alpha_bar**0.5,
        "sqrt_recipm1_alphas_cumprod": schedule.sigma,
        "timestep_map": schedule.timesteps,
    }.items():
        f.check(f"out.{tag}.{name}", torch.from_numpy(array))


class Fixed:
    """Stands for the network: the fixture's output, and the label that it would be told."""

    def __init__(self, output):
        self.output = output

    def eps_and_variance(self, x, sigma):
        return self.output[:, :3], self.output[:, 3:]


@pytest.mark.parametrize("tag", GROUPS)
def test_one_step(fixture, tag):
    f = fixture("adm-diffusion")
    schedule = Schedule(space_timesteps(GROUPS[tag]))
    x, output, t = f["in.x_t"], f["in.model_output"], f[f"in.{tag}.t"]
    eps, v = output[:, :3], output[:, 3:]
    x0 = schedule.predict_x0(x, eps, t)
    f.check(f"out.{tag}.noclip.pred_xstart", x0)
    f.check(f"out.{tag}.pred_xstart", x0.clamp(-1, 1))
    f.check(f"out.{tag}.noclip.mean", schedule.posterior_mean(x0, x, t))
    f.check(f"out.{tag}.mean", schedule.posterior_mean(x0.clamp(-1, 1), x, t))
    log_variance = schedule.log_variance(v, x, t)
    f.check(f"out.{tag}.log_variance", log_variance)
    f.check(f"out.{tag}.variance", log_variance.exp())
    f.check(f"out.{tag}.t_fed", torch.from_numpy(schedule.timesteps)[t])
    stepped = []
    for n, z in enumerate(f["in.noise"]):
        purifier = DDPM(Fixed(output[n : n + 1]), t=1000, respacing=GROUPS[tag])
        stepped.append(purifier.step(x[n : n + 1], z[None], i=int(t[n])))
    f.check(f"out.{tag}.p_sample", torch.cat(stepped))
