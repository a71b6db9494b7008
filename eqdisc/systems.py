"""Systems: known laws from textbooks and papers, each with its source, to practise on and to measure with.

The search never looks here. A system's formulas are over its states and named parameters; `simulate_system` makes
the table that someone who measured it would have.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from .equations import Equations, number_text
from .errors import OptionError, did_you_mean
from .simulation import simulate
from .status import Status
from .trajectory import Dataset, Trajectory


@dataclass(frozen=True)
class System:
    """A known law: formulas over states and parameters, starts, span and samples of a usual experiment, and where it is from.

    `signed` names the states that change sign; a `transcendental` law is none that sums of powers can say.
    """

    name: str
    title: str
    equations: dict[str, str]
    parameters: dict[str, float]
    x0: tuple[tuple[float, ...], ...]
    span: float
    samples: int
    source: str
    signed: tuple[str, ...] = ()
    transcendental: bool = False

    @property
    def law(self) -> Equations:
        """The law with its numbers in place."""
        return Equations.parse(
            {s: _fill(text, self.parameters) for s, text in self.equations.items()}, tuple(self.equations)
        )


def _fill(text: str, parameters: dict[str, float]) -> str:
    """Put numbers in the place of parameter names."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return (
                ast.parse(f"({number_text(parameters[node.id])})", mode="eval").body if node.id in parameters else node
            )

    return ast.unparse(Fill().visit(ast.parse(text, mode="eval")))


@cache
def catalogue() -> dict[str, System]:
    """Return all systems by name.

    >>> catalogue()["fsir"].law.readable()[0]
    'dS/dt = -0.06·√(I·S) + 0.01·R'
    """
    return {s.name: s for s in _SYSTEMS}


def simulate_system(
    name: str, *, noise: float = 0.0, seed: int = 0, samples: int | None = None, starts: int = 1
) -> Dataset:
    """Measure a system: trajectories from its first `starts` starts, with noise as a share of each state's standard deviation.

    Raises OptionError for a name that is not in the catalogue, and for noise, samples or starts that make no table.

    >>> simulate_system("fsir").trajectories[0].x[-1].round(2).tolist()
    [10.45, 14.91, 74.64]
    """
    if name not in catalogue():
        raise OptionError(f"the catalogue has no {name!r}.{did_you_mean(name, catalogue())}")
    system = catalogue()[name]
    samples = system.samples if samples is None else samples
    _check(system, noise, samples, starts)
    rng, law = np.random.default_rng(seed), system.law
    t = np.linspace(0.0, system.span, samples)
    trajectories = []
    for k, x0 in enumerate(system.x0[:starts]):
        run = simulate(law, np.array(x0), t, rtol=1e-10)
        if run.status is not Status.OK:
            raise OptionError(f"{name} cannot be simulated to t = {system.span:g}: it ends at {run.end:g}.")
        x = run.x + noise * run.x.std(0) * rng.standard_normal(run.x.shape) if noise else run.x
        trajectories.append(Trajectory(t, x, name=str(k)))
    return Dataset(tuple(trajectories), states=tuple(system.equations), file=name)


def _check(system: System, noise: float, samples: int, starts: int) -> None:
    if not 0.0 <= noise < math.inf:
        raise OptionError(f"noise is {noise}; give a share of the standard deviation, such as 0.02.")
    if samples < 2:
        raise OptionError(f"samples is {samples}; a trajectory needs two at least.")
    if not 1 <= starts <= len(system.x0):
        raise OptionError(f"starts is {starts}; {system.name} has 1 to {len(system.x0)}.")


_SYSTEMS = (
    System(
        "fsir", "Fractional SIR epidemic",
        {"S": "-b*sqrt(I*S) + e*R", "I": "b*sqrt(I*S) - a*I", "R": "a*I - e*R"},
        {"a": 0.05, "b": 0.06, "e": 0.01}, ((100.0, 0.01, 0.0), (80.0, 1.0, 5.0)), 200.0, 40,
        "Heim, Pevny & Smidl, Neural Power Units, NeurIPS 2020, eqs. 16-17; Taghvaei et al. 2020",
    ),
    System(
        "sir", "SIR epidemic", {"S": "-b*I*S", "I": "b*I*S - g*I", "R": "g*I"},
        {"b": 0.004, "g": 0.1}, ((99.0, 1.0, 0.0), (70.0, 10.0, 20.0)), 60.0, 60,
        "Kermack & McKendrick, Proc. R. Soc. A 115 (1927) 700",
    ),
    System(
        "seir", "SEIR epidemic with latency", {"S": "-b*I*S", "E": "b*I*S - s*E", "I": "s*E - g*I", "R": "g*I"},
        {"b": 0.9, "s": 0.25, "g": 0.2}, ((0.99, 0.0, 0.01, 0.0), (0.9, 0.05, 0.05, 0.0)), 80.0, 80,
        "Anderson & May, Infectious Diseases of Humans, Oxford 1991",
    ),
    System(
        "sirs_power", "SIRS epidemic with nonlinear incidence",
        {"S": "-b*I**0.8*S + w*R", "I": "b*I**0.8*S - g*I", "R": "g*I - w*R"},
        {"b": 0.7, "g": 0.3, "w": 0.1}, ((0.9, 0.1, 0.0), (0.6, 0.1, 0.3)), 60.0, 80,
        "Liu, Levin & Iwasa, J. Math. Biol. 23 (1986) 187",
    ),
    System(
        "generalized_growth", "Sub-exponential early epidemic", {"C": "r*C**p"}, {"r": 0.6, "p": 0.7},
        ((5.0,), (20.0,)), 30.0, 31, "Viboud, Simonsen & Chowell, Epidemics 15 (2016) 27",
    ),
    System(
        "lotka_volterra", "Predator and prey", {"x": "a*x - b*x*y", "y": "-c*y + d*x*y"},
        {"a": 1.0, "b": 0.1, "c": 1.5, "d": 0.075}, ((10.0, 5.0), (30.0, 4.0)), 15.0, 150, "Lotka 1925; Volterra, Nature 118 (1926) 558",
    ),
    System(
        "power_predation", "Predator and prey with fractional powers", {"x": "a*x - b*x**0.7*y**0.8", "y": "-c*y + d*x**0.7*y**0.8"},
        {"a": 0.4, "b": 0.3, "c": 0.8, "d": 0.4}, ((5.0, 2.0), (3.0, 4.0)), 30.0, 150, "Savageau, Biochemical Systems Analysis, 1976 (GMA form)",
    ),
    System(
        "holling", "Predator and prey with saturation", {"x": "x*(1 - x/k) - a*x*y/(1 + h*x)", "y": "-m*y + e*a*x*y/(1 + h*x)"},
        {"k": 4.0, "a": 1.2, "h": 0.8, "e": 0.7, "m": 0.35}, ((1.0, 0.5), (3.0, 1.0)), 40.0, 120, "Rosenzweig & MacArthur, Am. Nat. 97 (1963) 209",
    ),
    System(
        "competition", "Two species in competition", {"x": "x*(3 - x - 2*y)", "y": "y*(2 - x - y)"}, {},
        ((0.5, 1.8), (2.0, 0.3)), 10.0, 80, "Strogatz, Nonlinear Dynamics and Chaos, 1994, section 6.4",
    ),
    System("logistic", "Logistic growth", {"N": "r*N - r/k*N**2"}, {"r": 0.5, "k": 10.0}, ((0.5,), (15.0,)), 20.0, 50, "Verhulst 1838"),
    System(
        "allee", "Growth with an Allee effect", {"N": "r*N*(N/a - 1)*(1 - N/k)"}, {"r": 0.4, "a": 1.0, "k": 6.0},
        ((1.3,), (8.0,)), 12.0, 60, "Courchamp, Berec & Gascoigne, Allee Effects, Oxford 2008",
    ),
    System("west", "Ontogenetic growth", {"m": "a*m**0.75 - b*m"}, {"a": 0.3, "b": 0.1}, ((1.0,), (120.0,)), 150.0, 60, "West, Brown & Enquist, Nature 413 (2001) 628"),
    System(
        "bertalanffy", "Growth of a body by surface and loss by volume", {"W": "a*W**(2/3) - b*W"}, {"a": 1.2, "b": 0.3},
        ((0.5,), (100.0,)), 40.0, 60, "von Bertalanffy, Q. Rev. Biol. 32 (1957) 217",
    ),
    System("tumor_power", "Tumour growth by a power law", {"V": "a*V**g"}, {"a": 0.92, "g": 0.79}, ((2.0,), (30.0,)), 20.0, 25, "Benzekry et al., PLoS Comput. Biol. 10 (2014) e1003800"),
    System("torricelli", "Draining tank", {"h": "-k*sqrt(h)"}, {"k": 0.02}, ((1.0,), (0.6,)), 75.0, 50, "Torricelli 1643; Bernoulli 1738"),
    System(
        "two_tanks", "Two tanks in series", {"h1": "q - a*sqrt(h1)", "h2": "a*sqrt(h1) - b*sqrt(h2)"},
        {"q": 0.5, "a": 0.4, "b": 0.3}, ((4.0, 0.5), (0.3, 5.0)), 40.0, 60, "Schoukens & Noel, IFAC-PapersOnLine 50 (2017) 446",
    ),
    System("stefan_boltzmann", "Radiative cooling", {"T": "p - s*T**4"}, {"p": 1.62, "s": 0.02}, ((10.0,), (1.0,)), 1.0, 60, "Boltzmann, Ann. Phys. 258 (1884) 291"),
    System("newton_cooling", "Cooling towards the room", {"T": "k*(a - T)"}, {"k": 0.05, "a": 20.0}, ((90.0,), (5.0,)), 80.0, 50, "Newton, Phil. Trans. 22 (1701) 824"),
    System("blast_wave", "Strong explosion", {"R": "c*R**(-1.5)"}, {"c": 2.5}, ((1.0,), (0.5,)), 40.0, 40, "Taylor, Proc. R. Soc. A 201 (1950) 159; Sedov 1946"),
    System("quadratic_drag", "Falling with quadratic drag", {"v": "g - k*v**2"}, {"g": 9.81, "k": 0.2}, ((0.1,), (12.0,)), 3.0, 50, "Rayleigh, Phil. Mag. 2 (1876) 430"),
    System("half_order", "Reaction of half order", {"c": "-k*sqrt(c)"}, {"k": 0.1}, ((2.0,), (1.0,)), 18.0, 40, "Atkins & de Paula, Physical Chemistry, ch. 20"),
    System(
        "second_order", "Reaction of second order", {"A": "-k*A*B", "B": "-k*A*B", "C": "k*A*B"}, {"k": 0.5},
        ((1.0, 1.5, 0.0), (2.0, 1.0, 0.2)), 10.0, 40, "Atkins & de Paula, Physical Chemistry, ch. 20",
    ),
    System(
        "consecutive", "Consecutive reactions", {"A": "-k*A", "B": "k*A - l*B", "C": "l*B"}, {"k": 0.6, "l": 0.2},
        ((1.0, 0.0, 0.0), (0.5, 0.5, 0.0)), 20.0, 50, "Levenspiel, Chemical Reaction Engineering, ch. 3",
    ),
    System(
        "robertson", "Stiff autocatalysis", {"A": "-a*A + c*B*C", "B": "a*A - c*B*C - b*B**2", "C": "b*B**2"},
        {"a": 0.04, "b": 3e7, "c": 1e4}, ((1.0, 0.0, 0.0), (0.5, 0.0, 0.5)), 40.0, 80, "Robertson, in Walsh (ed.), Numerical Analysis, 1966",
    ),
    System(
        "michaelis_menten", "Enzyme kinetics", {"S": "-v*S/(K + S)"}, {"v": 1.0, "K": 2.0}, ((10.0,), (4.0,)), 20.0, 60, "Michaelis & Menten, Biochem. Z. 49 (1913) 333",
    ),
    System(
        "monod", "Chemostat", {"X": "m*S*X/(K + S) - D*X", "S": "D*(f - S) - m*S*X/(y*(K + S))"},
        {"m": 0.5, "K": 1.0, "D": 0.2, "f": 8.0, "y": 0.6}, ((0.3, 6.0), (2.0, 1.0)), 60.0, 90, "Monod, Annu. Rev. Microbiol. 3 (1949) 371",
    ),
    System(
        "brusselator", "Autocatalytic oscillator", {"x": "a + x**2*y - (b + 1)*x", "y": "b*x - x**2*y"}, {"a": 1.0, "b": 3.0},
        ((1.2, 3.1), (0.5, 2.0)), 20.0, 150, "Prigogine & Lefever, J. Chem. Phys. 48 (1968) 1695",
    ),
    System("schnakenberg", "Two-species oscillator", {"x": "a - x + x**2*y", "y": "b - x**2*y"}, {"a": 0.1, "b": 0.5}, ((0.7, 1.2), (1.5, 0.6)), 40.0, 150, "Schnakenberg, J. Theor. Biol. 81 (1979) 389"),
    System(
        "van_der_pol", "Relaxation oscillator", {"x": "y", "y": "m*(1 - x**2)*y - x"}, {"m": 1.5}, ((2.0, 0.0), (0.5, -1.0)), 20.0, 200,
        "van der Pol, Phil. Mag. 2 (1926) 978", signed=("x", "y"),
    ),
    System(
        "fitzhugh_nagumo", "Nerve impulse", {"v": "v - v**3/3 - w + i", "w": "e*(v + a - b*w)"}, {"i": 0.5, "e": 0.08, "a": 0.7, "b": 0.8},
        ((-1.0, 1.0), (1.5, -0.3)), 100.0, 200, "FitzHugh, Biophys. J. 1 (1961) 445", signed=("v", "w"),
    ),
    System(
        "duffing", "Hardening spring with damping", {"x": "v", "v": "-d*v - a*x - b*x**3"}, {"d": 0.2, "a": 1.0, "b": 0.8},
        ((1.5, 0.0), (-1.0, 1.0)), 20.0, 150, "Duffing 1918", signed=("x", "v"),
    ),
    System(
        "lorenz", "Convection, chaotic", {"x": "s*(y - x)", "y": "r*x - y - x*z", "z": "x*y - b*z"}, {"s": 10.0, "r": 28.0, "b": 8 / 3},
        ((-8.0, 7.0, 27.0), (5.0, -5.0, 20.0)), 10.0, 1000, "Lorenz, J. Atmos. Sci. 20 (1963) 130", signed=("x", "y"),
    ),
    System(
        "roessler", "Folded band, chaotic", {"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}, {"a": 0.2, "b": 0.2, "c": 5.7},
        ((1.0, 1.0, 0.5), (-4.0, 2.0, 0.1)), 50.0, 1000, "Roessler, Phys. Lett. A 57 (1976) 397", signed=("x", "y"),
    ),
    System("solow", "Capital per head", {"k": "s*k**0.35 - d*k"}, {"s": 0.3, "d": 0.08}, ((1.0,), (15.0,)), 80.0, 50, "Solow, Q. J. Econ. 70 (1956) 65"),
    System(
        "goodwin", "Growth cycle of wages and employment", {"u": "u*(0.5*v - 0.4)", "v": "v*(0.3 - 0.4*u)"}, {},
        ((0.6, 0.9), (0.9, 0.7)), 60.0, 120, "Goodwin, in Feinstein (ed.), Socialism, Capitalism and Economic Growth, 1967",
    ),
    System(
        "pendulum", "Pendulum", {"x": "v", "v": "-g*sin(x)"}, {"g": 4.0}, ((2.0, 0.0), (1.0, 2.0)), 10.0, 150,
        "Huygens 1673", signed=("x", "v"), transcendental=True,
    ),
)  # fmt: skip
