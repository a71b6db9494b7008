r"""Estimator: the road from states over time to a law, as scikit-learn's tools call it.

    fit(X, t=t)        X (n, d) holds the states x(t_k) themselves: rows are times, not independent samples; there is no y
    predict(X)         \dot x = f(x) at each row, which no longer depends on the order of rows
    score(X, t=t)      R^2 = 1 - mean_k,e ((x_e(t_k) - \hat x_e(t_k)) / spread_e)^2 of the law simulated along X

Missing values (NaN) are allowed in X: they count as not measured. A pandas DataFrame lends its column names to the states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import Float

from .data.dataset import Dataset
from .data.tables import as_dataset
from .discovery import discover
from .judge.validation import score as score_against
from .judge.validation import stretches_unseen
from .law.simulation import Simulation, simulate
from .work.config import FitConfig
from .work.errors import DataError

try:
    from sklearn.base import BaseEstimator
    from sklearn.utils import Tags
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError:
    raise ImportError("EquationDiscovery needs scikit-learn; pip install 'eqdisc[sklearn]'.") from None

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 4  # a start, a coefficient, an exponent, and a value to check them
CLOCK, LABEL = "t", "trajectory"


class EquationDiscovery(BaseEstimator):
    """Find the differential equation behind states over time, as a scikit-learn estimator.

    The parameters are those of `FitConfig` with the same defaults. After `fit`: `equations_` (the law), `verdict_`, `discovery_` (front,
    reasons, alternatives, intervals), `n_features_in_`, and `feature_names_in_` where X was a DataFrame with named columns.

    Rows are times: to cross-validate, hold out whole trajectories or the end of each, never rows at random.

    >>> t = np.linspace(0.0, 5.0, 20)
    >>> model = EquationDiscovery().fit(2.0 * np.exp(-0.5 * t)[:, None], t=t)
    >>> print(model.equations_)
    dx0/dt = -0.5·x0
    >>> model.predict([[4.0]]), model.simulate([4.0], [0.0, 2.0]).x[-1].round(3)
    (array([[-2.]]), array([1.472]))
    """

    def __init__(
        self,
        *,
        search: str = "proposals",
        exponents: str = "menu",
        noise: str = "auto",
        snap: bool = True,
        seed: int = 0,
        time_limit: float | None = None,
    ) -> None:
        self.search = search
        self.exponents = exponents
        self.noise = noise
        self.snap = snap
        self.seed = seed
        self.time_limit = time_limit

    def fit(
        self,
        X: Float[np.ndarray, "n d"] | pd.DataFrame,
        y: None = None,
        *,
        t: Float[np.ndarray, "n"] | None = None,
        trajectory: Any = None,
    ) -> Self:
        """Find the law of the states X (n, d) at the times t (n,), 0, 1, 2, ... where t is not given.

        `trajectory` (n,) labels the experiment of each row; y is ignored. Raises DataError or OptionError in one sentence.
        """
        config = FitConfig(**self.get_params())
        found = discover(self._dataset(X, t, trajectory, reset=True), config)
        self.discovery_, self.equations_, self.verdict_ = found, found.equations, found.verdict
        return self

    def predict(self, X: Float[np.ndarray, "n d"] | pd.DataFrame) -> Float[np.ndarray, "n d"]:
        """Return the derivative dx/dt (n, d) at each row; NaN where the law is not defined or a state it needs is missing."""
        check_is_fitted(self)
        x = self._check(X, reset=False)
        with np.errstate(all="ignore"):
            return self.equations_.function()(0.0, x)

    def simulate(self, x0: Float[np.ndarray, "d"], t: Float[np.ndarray, "n"]) -> Simulation:
        """Simulate the law from x0 (d,) at t[0] through the times t (n,), as far as it goes."""
        check_is_fitted(self)
        return simulate(self.equations_, np.asarray(x0, float), np.asarray(t, float))

    def score(
        self,
        X: Float[np.ndarray, "n d"] | pd.DataFrame,
        y: None = None,
        *,
        t: Float[np.ndarray, "n"] | None = None,
        trajectory: Any = None,
    ) -> float:
        """Return R² of the law, simulated along each trajectory of X from its smoothed start; y is ignored.

        1 is perfect, 0 no better than the mean; minus infinity where a simulation ends before its trajectory does.
        """
        check_is_fitted(self)
        data = self._dataset(X, t, trajectory, reset=False)
        spread = np.nanstd(data.stacked(), axis=0)
        return 1.0 - score_against(self.equations_, stretches_unseen(data), spread).error ** 2

    def _dataset(self, X: Any, t: Any, trajectory: Any, reset: bool) -> Dataset:
        """Return the rows as trajectories; the states are named as the columns are, else x0, x1, ..."""
        import pandas as pd

        x = self._check(X, reset, FEWEST_ROWS)
        names = [str(name) for name in getattr(self, "feature_names_in_", [f"x{i}" for i in range(x.shape[1])])]
        _refuse_roles(names)
        roles = {CLOCK: np.arange(len(x)) if t is None else t} | ({} if trajectory is None else {LABEL: trajectory})
        frame = pd.DataFrame(x, columns=names)
        for place, (role, values) in enumerate(roles.items()):
            frame.insert(place, role, _read_role(role, values, len(x)))
        return as_dataset(frame, time=CLOCK, trajectory=None if trajectory is None else LABEL, states=names)

    def _check(self, X: Any, reset: bool, fewest: int = 1) -> Float[np.ndarray, "n d"]:
        """Return X as numbers (n, d); what scikit-learn refuses about its values is a DataError with the same sentence."""
        try:
            return validate_data(
                self,
                X,
                reset=reset,
                dtype=np.float64,
                ensure_all_finite="allow-nan",
                ensure_min_samples=fewest,
            )
        except ValueError as error:
            raise DataError(str(error)) from None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = (
            self.time_limit is not None
        )  # how far a search comes in a second depends on the machine
        return tags


def _refuse_roles(names: list[str]) -> None:
    for name in names:
        if name.casefold() in (CLOCK, "time", LABEL):
            role = LABEL if name.casefold() == LABEL else CLOCK
            cure = f"fit(X.drop(columns={name!r}), {role}=X[{name!r}])"
            raise DataError(f"X holds the column {name!r}, but its columns are the states; give it apart: {cure}.")


def _read_role(role: str, values: Any, rows: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (rows,):
        raise DataError(f"{role} has shape {values.shape} for {rows} rows of X; give one value for each row.")
    return values
