"""Nearness to a projection: of maps whose Jacobian is known, and of the figure that looks at it."""

import pytest
import torch
from torch import nn

from puriflow.diffusion.denoisers import SigmaDenoiser
from puriflow.diffusion.vp import DISCRETE_ALPHA_BAR
from puriflow.errors import UserError
from puriflow.metrics.geometry import directed, nearness, pulled, pushed, shares
from puriflow.purifiers.osd import OSD
from puriflow.randomness import ImageNoise
from puriflow.restorers.bicubic import build as bicubic
from puriflow.results.figures.geometry import AtClean, Seen, against_clean, estimate, up_down

SHAPE, D, K = (2, 3, 2, 2), 12, 5


def flat(matrix):
    """The map x -> A x of images."""
    return lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape)


def projector(seed=0):
    """The orthonormal projection onto a subspace of dimension K."""
    torch.manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, K, dtype=torch.float64))[0]
    return basis @ basis.T


def drawn(seed=1):
    torch.manual_seed(seed)
    return [torch.randn(SHAPE, dtype=torch.float64) for _ in range(3)]


def test_an_orthonormal_projection_is_one():
    x, v, u = drawn()
    found = nearness(flat(projector()), x, v, u)
    for measure in found[:3]:
        assert torch.allclose(measure, torch.zeros(2, dtype=torch.float64), atol=1e-12)
    onto = flat(projector())(v)
    assert torch.allclose(found.kept, (onto.flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)) ** 2)
    kept, removed = shares(pushed(flat(projector()), x, v)[1], v)
    assert torch.allclose(kept + removed, torch.ones(2, dtype=torch.float64))


def test_an_oblique_projection_is_not_symmetric():
    onto, along = projector(0), projector(3)
    # Of rank K: it projects onto one subspace along the complement of another.
    oblique = onto @ torch.linalg.pinv(along @ onto, rtol=1e-6) @ along
    x, v, u = drawn()
    found = nearness(flat(oblique), x, v, u)
    assert (found.idempotence < 1e-9).all()
    assert (found.asymmetry > 0.1).all()
    assert (found.symmetry > 1e-3).all()


def test_measures_are_those_of_the_matrix():
    torch.manual_seed(4)
    a = torch.randn(D, D, dtype=torch.float64)
    x, v, u = drawn()
    found = nearness(flat(a), x, v, u)
    for i in range(2):
        one, other = v[i].flatten(), u[i].flatten()
        jv = a @ one
        assert found.idempotence[i] == pytest.approx(((a @ jv - jv).norm() / jv.norm()).item())
        crossed = (other @ jv - one @ (a @ other)).abs() / (other.norm() * jv.norm())
        assert found.symmetry[i] == pytest.approx(crossed.item())
        back = a.T @ one
        apart = (jv - back).norm() / (jv.norm() + back.norm())
        assert found.asymmetry[i] == pytest.approx(apart.item())


def test_both_products_are_those_of_finite_differences():
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 3, 1)).double()
    x, v, u = drawn()
    image, jv = pushed(network, x, v)
    assert torch.equal(image, network(x))
    h = 1e-6
    assert torch.allclose(jv, (network(x + h * v) - network(x - h * v)) / (2 * h), atol=1e-8)
    assert (pulled(network, x, u) * v).sum().item() == pytest.approx((u * jv).sum().item())


def test_the_state_to_which_a_projection_leads_counts():
    """A map onto the circle: its Jacobian turns with the point, and is a projection on it alone."""

    def onto(x):
        return x / x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)

    x, v, u = drawn()
    far = nearness(onto, 3 * onto(x), v, u)
    # At three radii J is a third of the tangent's projector, and J on the circle the whole of it.
    assert torch.allclose(far.idempotence, torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert (far.asymmetry < 1e-12).all()
    tangent = pushed(onto, onto(x), v)[1]
    assert torch.allclose(pushed(onto, 3 * onto(x), v)[1], tangent / 3)


class FlatData(nn.Module):
    """D(x; sigma) for data that are normal of deviation s on a subspace through 0."""

    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x, sigma):
        shrunk = self.s**2 / (self.s**2 + sigma.reshape(-1, 1, 1, 1) ** 2)
        return shrunk * flat(projector().to(x.dtype))(x)


@pytest.mark.parametrize("s", [1e3, 0.5])
def test_p_t_on_a_flat_manifold_is_the_projection_but_for_its_shrinking(s):
    osd = OSD(SigmaDenoiser(FlatData(s)), t=90)
    x, v, u = (a.float() for a in drawn())

    def f(images):
        return estimate(osd, images, ImageNoise(0, "purify", [0, 1]))

    sigma2 = 1 / DISCRETE_ALPHA_BAR[89] - 1
    c = s**2 / (s**2 + sigma2)
    found = nearness(f, x, v, u)
    assert found.idempotence.tolist() == pytest.approx([1 - c, 1 - c], abs=1e-5)
    assert found.asymmetry.tolist() == pytest.approx([0, 0], abs=1e-5)
    onto = flat(projector().float())(v).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)
    assert found.kept.tolist() == pytest.approx((c * onto).square().tolist(), rel=1e-4)


def test_what_p_t_says_of_points_beside_a_flat_manifold():
    """A point on the tangent space is on it, and one beside it as far away as it is."""
    osd = OSD(SigmaDenoiser(FlatData(1e4)), t=90)
    p = projector().float()
    clean = 0.5 + flat(p)(drawn(7)[0][:1].float())
    attack = drawn(8)[0][:1].float()
    inside = flat(p)(attack)

    def f(images):
        return estimate(osd, images, ImageNoise(0, "purify", [0]))

    def seen(point):
        return Seen(clean, clean + attack, clean, clean + attack, point)

    v = drawn(9)[0][:1].float()
    at_clean = AtClean(pushed(f, clean, v)[1], pushed(f, clean, attack)[1])

    def said(point):
        return against_clean(at_clean, seen(point), pushed(f, point, v)[1])

    on, off = said(clean + inside), said(clean + attack)
    assert on["off_tangent"] == pytest.approx(0, abs=1e-4)
    beside = ((attack - inside).norm() / attack.norm()).item()
    assert off["off_tangent"] == pytest.approx(beside, rel=1e-3)
    assert off["turned"] == pytest.approx(0, abs=1e-5)


def test_estimates_are_those_of_the_parts_but_for_their_clamps():
    images, noise = torch.rand(1, 3, 8, 8), ImageNoise(0, "purify", [3])
    osd = OSD(SigmaDenoiser(Halved()), t=500)
    wide = estimate(osd, images, noise)
    clamped = osd(images, ImageNoise(0, "purify", [3]))
    assert torch.allclose(wide.clamp(0, 1), clamped)
    assert not torch.equal(wide, clamped)
    restorer = bicubic(scale=2, rounds=2)
    smooth = 0.25 + images / 2
    assert torch.allclose(up_down(restorer, smooth), restorer(smooth))


class Halved(nn.Module):
    """D(x; sigma) = x / 2, which leaves [-1, 1]."""

    def forward(self, x, sigma):
        return x / 2


def test_directions_of_no_length_are_refused():
    x, v, u = drawn()
    with pytest.raises(UserError, match="what the map makes of a direction has length 0"):
        nearness(lambda x: 0 * x, x, v, u)
    with pytest.raises(UserError, match="a direction has length 0, so it points nowhere"):
        directed(torch.zeros(SHAPE), "a direction")
    with pytest.raises(UserError, match="points nowhere"):
        shares(v, torch.zeros(SHAPE))
