"""How a search goes about: what one can ask of it beyond space, board and folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from trec_dse.errors import InputError

SamplerName = Literal["auto", "tpe", "nsga2", "qmc", "random"]
ExecutorName = Literal["local", "nodes", "dask", "ray", "grpc"]
EXECUTORS: tuple[ExecutorName, ...] = get_args(ExecutorName)
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
N_START, N_TPE = 10, 1000
REDUCTION = 3
LEASE_S, IDLE_S = 120.0, 600.0
LISTEN = "127.0.0.1:13000"
TLS_CERT, TLS_KEY, TLS_CA = "--tls-cert", "--tls-key", "--tls-ca"


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection, in PEM: what one side shows, and whom it believes.

    Attributes:
        cert, key: our own certificate and its key; a search needs them, a worker if the search asks for them.
        ca: that of the authority which signs those of the other side; a worker needs it, and a search that names one
            lets in only workers with a certificate.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""


@dataclass(frozen=True)
class SamplerSettings:
    """How `auto` goes about: `n_start` trials of a Latin hypercube, TPE up to `n_tpe` trials, then evolution."""

    name: SamplerName = "auto"
    n_start: int = N_START
    n_tpe: int = N_TPE

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise InputError(f"no sampler is called {self.name!r}; choose from {', '.join(SAMPLERS)}")
        if self.n_start < 1 or self.n_tpe < self.n_start:
            raise InputError(
                f"{self.n_start} trials to start with and TPE up to {self.n_tpe}; needed 1 <= start <= TPE"
            )


@dataclass(frozen=True)
class ExploreSettings:
    """How to search.

    Attributes:
        n_trials: trials that the study shall hold in the end; duplicates and interrupted ones do not count.
        seed: of the sampler; training has its own seed in the candidate's recipe.
        workers: evaluations at a time.
        data_dir: folder of the data sets; None means the cache, or a download.
        n_train: training images of every candidate, instead of what its recipe says.
        storage_url: an Optuna database instead of the journal in the study's folder.
        timeout_s: after so many seconds no further trial is started; those that run are finished.
        force: accept that the search-space file has changed since the study began.
        function: what evaluates, as "module:function".
        sampler: where candidates come from.
        reduction: one in so many candidates is trained on at each rung of epochs; 1 trains all of them to the end.
        max_epochs: nothing is started once so many epochs, of all candidates and phases, have been trained.
        warm_start: folder of a study whose front is tried first, or "presets" for the shipped candidates.
        executor: who evaluates: processes of this machine, nodes that share the study's folder (cluster.py), the
            workers of a Dask or Ray cluster, or whoever asks over gRPC (pools/).
        lease_s: a node that gives no sign of life for so long has lost its task.
        scheduler: address of the Dask scheduler or of the Ray cluster; None takes what the library finds.
        gpus: share of a GPU that Ray gives to each evaluation.
        listen: HOST:PORT at which workers that share no folder find the search, with the executor "grpc".
        tls: what it shows them and asks of them; None does not encrypt.
    """

    n_trials: int = 50
    seed: int = 0
    workers: int = 1
    objectives: tuple[str, ...] = ("error", "sram", "flash", "latency")
    data_dir: Path | None = None
    n_train: int | None = None
    storage_url: str | None = None
    timeout_s: float | None = None
    force: bool = False
    function: str = "trec_dse.evaluate:evaluate_json"
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    reduction: int = 1
    max_epochs: int | None = None
    warm_start: str | None = None
    executor: ExecutorName = "local"
    lease_s: float = LEASE_S
    scheduler: str | None = None
    gpus: float = 0.0
    listen: str = LISTEN
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if self.n_trials < 1:
            raise InputError(f"{self.n_trials} trials were asked for; it must be at least 1")
        if self.reduction < 1:
            raise InputError(f"one in {self.reduction} was to be trained on; it must be at least 1, which trains all")
        if self.tls is not None and self.executor != "grpc":
            raise InputError(
                f"{TLS_CERT}, {TLS_KEY} and {TLS_CA} are for workers that ask over gRPC; needed --executor grpc"
            )
