"""Who evaluates: this machine's processes, nodes on a shared folder, Dask's or Ray's workers, or who asks over gRPC."""

from pathlib import Path

from trec_dse.cluster import NodePool
from trec_dse.pools.dask import DaskPool
from trec_dse.pools.grpc import GrpcPool
from trec_dse.pools.ray import RayPool
from trec_dse.settings import ExploreSettings
from trec_dse.workers import WorkerPool

AnyPool = WorkerPool | NodePool | DaskPool | RayPool | GrpcPool


def open_pool(settings: ExploreSettings, folder: Path) -> AnyPool:
    """The pool that `settings.executor` names, a context manager; only for the process that holds the study.

    Raises InputError where its library is missing no scheduler answers, or the address is taken.
    """
    match settings.executor:
        case "nodes":
            return NodePool(settings.workers, folder, settings.lease_s)
        case "dask":
            return DaskPool(settings.workers, settings.scheduler)
        case "ray":
            return RayPool(settings.workers, settings.scheduler, n_gpus=settings.gpus)
        case "grpc":
            return GrpcPool(settings.workers, folder, settings.listen, settings.lease_s, tls=settings.tls)
    return WorkerPool(settings.workers, folder / "workers.log")
