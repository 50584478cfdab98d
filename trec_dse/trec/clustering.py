"""Group neuron vectors by signature, within one image, and replace each by the mean of its group."""

import torch
from torch import Tensor


def assign_clusters(codes: Tensor, hash_bits: int, max_clusters: int | None) -> tuple[Tensor, Tensor]:
    """Cluster indices (B, n, N) and numbers of clusters (B, n) of signatures (B, n, N), both int64.

    Each image and each slice is clustered for itself. Clusters are numbered in the order in which their
    signatures first appear. Once there are `max_clusters`, a row with a new signature joins the cluster whose
    signature differs in the fewest bits, the oldest one on ties.
    """
    shape = codes.shape
    codes = codes.reshape(-1, shape[-1])
    groups, positions = codes.shape
    order = torch.arange(positions, device=codes.device).expand(groups, positions)
    first_of_code = torch.full((groups, 2**hash_bits), positions, dtype=torch.int64, device=codes.device)
    first_of_code.scatter_reduce_(1, codes, order, "amin")
    first = first_of_code.gather(1, codes)  # position at which each row's signature first appeared
    opens_cluster = first == order
    indices = (opens_cluster.cumsum(dim=1) - 1).gather(1, first)
    counts = opens_cluster.sum(dim=1)
    if max_clusters is not None and int(counts.amax()) > max_clusters:
        indices = _join_nearest(codes, indices, opens_cluster, max_clusters)
        counts = counts.clamp(max=max_clusters)
    return indices.view(shape), counts.view(shape[:-1])


def codes_of_clusters(codes: Tensor, indices: Tensor) -> Tensor:
    """Per vector, the signature that its cluster was opened with; `codes` and `indices` are (B, n, N)."""
    order = torch.arange(codes.shape[-1], device=codes.device).expand_as(indices)
    opener = torch.full_like(indices, codes.shape[-1]).scatter_reduce_(-1, indices, order, "amin")
    return codes.gather(-1, opener.gather(-1, indices))


def _join_nearest(codes: Tensor, indices: Tensor, opens_cluster: Tensor, max_clusters: int) -> Tensor:
    """Indices (G, N) in which the rows beyond the cap have joined the nearest of the first `max_clusters`."""
    group, row = torch.nonzero(opens_cluster & (indices < max_clusters), as_tuple=True)
    kept_codes = torch.zeros(len(codes), max_clusters, dtype=torch.int64, device=codes.device)
    kept_codes[group, indices[group, row]] = codes[group, row]
    group, row = torch.nonzero(indices >= max_clusters, as_tuple=True)
    differing = codes[group, row].unsqueeze(1) ^ kept_codes[group]
    distances = torch.zeros_like(differing)
    while bool(differing.any()):
        distances += differing & 1
        differing = differing >> 1
    # The index breaks ties; argmin alone promises no order among equals.
    ranked = distances * max_clusters + torch.arange(max_clusters, device=codes.device)
    indices = indices.clone()
    indices[group, row] = ranked.amin(dim=1) % max_clusters
    return indices


def centroid_rows(rows: Tensor, indices: Tensor, counts: Tensor) -> Tensor:
    """Rows (B, N, K) with every neuron vector replaced by the mean of its cluster.

    `indices` (B, n, N) and `counts` (B, n) are those of `assign_clusters`. Differentiable in `rows`: each
    member of a cluster receives the cluster's mean gradient.
    """
    batch, slices, positions = indices.shape
    vectors = rows.reshape(batch * positions * slices, -1)  # in the order of the rows: nothing is copied
    width = int(counts.amax())
    first = width * torch.arange(batch * slices, device=rows.device).view(batch, slices, 1)
    flat = (indices + first).transpose(1, 2).reshape(-1)
    n_clusters = batch * slices * width
    sums = vectors.new_zeros(n_clusters, vectors.shape[1]).index_add(0, flat, vectors)
    members = torch.bincount(flat, minlength=n_clusters).clamp(min=1)
    means = sums / members.unsqueeze(1).to(rows.dtype)
    return means.index_select(0, flat).view(rows.shape)
