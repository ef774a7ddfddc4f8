import pytest
import torch

from puriflow.diffusion.schedule import Schedule, spaced
from puriflow.purifiers.ddpm import sample

GROUPS = {"full": 1000, "r250": 250}


@pytest.mark.parametrize("tag", GROUPS)
def test_schedules(fixture, tag):
    f = fixture("adm-diffusion")
    schedule = Schedule(spaced(GROUPS[tag]))
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

    def noise_and_variance(self, x, sigma):
        return self.output[:, :3], self.output[:, 3:]


@pytest.mark.parametrize("tag", GROUPS)
def test_one_step(fixture, tag):
    f = fixture("adm-diffusion")
    schedule = Schedule(spaced(GROUPS[tag]))
    x, output, t = f["in.x_t"], f["in.model_output"], f[f"in.{tag}.t"]
    noise, values = output[:, :3], output[:, 3:]
    x0 = schedule.clean(x, noise, t)
    f.check(f"out.{tag}.noclip.pred_xstart", x0)
    f.check(f"out.{tag}.pred_xstart", x0.clamp(-1, 1))
    f.check(f"out.{tag}.noclip.mean", schedule.mean(x0, x, t))
    f.check(f"out.{tag}.mean", schedule.mean(x0.clamp(-1, 1), x, t))
    log_variance = schedule.log_variance(values, x, t)
    f.check(f"out.{tag}.log_variance", log_variance)
    f.check(f"out.{tag}.variance", log_variance.exp())
    f.check(f"out.{tag}.t_fed", torch.from_numpy(schedule.timesteps)[t])
    stepped = [
        sample(schedule, Fixed(output[n : n + 1]), x[n : n + 1], z[None], t[n], clip=True)
        for n, z in enumerate(f["in.noise"])
    ]
    f.check(f"out.{tag}.p_sample", torch.cat(stepped))
