"""Triton kernels of the forward pass: vectors are signed, averaged by slot, and outputs gather their products.

A slot is a place in the table of means of one image and one group: the signature itself for short hashes, the cluster
in order of appearance for long ones. Images are zero-padded with channels last, so that a vector is a base plus offsets
that are the same for all vectors of its group. No unfolded input is ever stored.
"""

import triton
import triton.language as tl

BITS = tl.constexpr(16)  # room for a signature's bits: tensor cores take no fewer columns


@triton.jit
def load_vectors(image, bases, elements, t, n_vectors, e, length, ALIGN: tl.constexpr):
    """Elements `e` of the vectors `t` of one image as a tile (t, e), zeros outside."""
    base = tl.load(bases + t, mask=t < n_vectors, other=0)
    offset = tl.load(elements + e, mask=e < length, other=0)
    # The hint stands at the addresses: loads that are pipelined lose theirs. ALIGN elements are as many bytes or more.
    where = image + base[:, None] + offset[None, :]
    where = tl.max_contiguous(tl.multiple_of(where, (1, ALIGN)), (1, ALIGN))
    inside = (t < n_vectors)[:, None] & (e < length)[None, :]
    return tl.load(where, mask=inside, other=0.0)


@triton.jit
def codes_of(projected, threshold, h, HASH_BITS: tl.constexpr):
    """Signatures of projections (vectors, BITS), the first bit counting most."""
    value = tl.where(h < HASH_BITS, 1 << tl.maximum(HASH_BITS - 1 - h, 0), 0)
    return tl.sum(tl.where(projected > threshold[None, :], value[None, :], 0), axis=1)


@triton.jit
def sign(
    x, bases, elements, hash, thresholds, codes, projections, moments,
    image_size, n_vectors, length, has_own_hash,
    HASH_BITS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, ALIGN: tl.constexpr,
    KEEPS: tl.constexpr, LEARNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Signatures of BN vectors of group program_id(1) and image program_id(2).

    KEEPS stores the projections, LEARNS the sums of the distances from the thresholds and of their squares.
    """
    g, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    own = g * has_own_hash
    t = tl.program_id(0) * BN + tl.arange(0, BN)
    h = tl.arange(0, BITS)
    projected = tl.zeros((BN, BITS), tl.float32)
    for start in range(0, length, BL):
        e = start + tl.arange(0, BL)
        tile = load_vectors(x + b * image_size, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
        inside = (e < length)[:, None] & (h < HASH_BITS)[None, :]
        vectors = tl.load(hash + (own * length + e)[:, None] * HASH_BITS + h[None, :], mask=inside, other=0.0)
        projected = tl.dot(tile.to(tl.float32), vectors, projected, input_precision=PRECISION)
    threshold = tl.load(thresholds + own * HASH_BITS + h, mask=h < HASH_BITS, other=0.0)
    code = codes_of(projected, threshold, h, HASH_BITS)
    place = (b * tl.num_programs(1) + g) * n_vectors
    tl.store(codes + place + t, code, mask=t < n_vectors)
    inside = (t < n_vectors)[:, None] & (h < HASH_BITS)[None, :]
    if KEEPS:
        tl.store(projections + (place + t)[:, None] * HASH_BITS + h[None, :], projected, mask=inside)
    if LEARNS:
        distance = tl.where(inside, projected - threshold[None, :], 0.0)
        row = (g * tl.num_programs(2) + b) * tl.num_programs(0) + tl.program_id(0)
        tl.store(moments + 2 * row * BITS + h, tl.sum(distance, axis=0))
        tl.store(moments + (2 * row + 1) * BITS + h, tl.sum(distance * distance, axis=0))


@triton.jit
def find_steepness(moments, steepness, slope, n_rows, n_values, BR: tl.constexpr):
    """Slope over the deviation of the projections of group program_id(0), from `n_rows` rows of moments."""
    g = tl.program_id(0)
    r, h = tl.arange(0, BR), tl.arange(0, BITS)
    sums = tl.zeros((BR, BITS), tl.float32)
    squares = tl.zeros((BR, BITS), tl.float32)
    for start in range(0, n_rows, BR):
        inside = (start + r < n_rows)[:, None]
        row = moments + 2 * (g * n_rows + start + r)[:, None] * BITS + h[None, :]
        sums += tl.load(row, mask=inside, other=0.0)
        squares += tl.load(row + BITS, mask=inside, other=0.0)
    mean = tl.sum(sums, axis=0) / n_values
    variance = tl.maximum(tl.sum(squares, axis=0) / n_values - mean * mean, 0.0)
    tl.store(steepness + g * BITS + h, slope / tl.maximum(tl.sqrt(variance), 1e-6))


@triton.jit
def find_memberships(projections, thresholds, steepness, t, n_vectors, s, HASH_BITS: tl.constexpr):
    """Soft memberships (t, s) of vectors in all signatures."""
    logits = tl.zeros((t.shape[0], s.shape[0]), tl.float32)
    for h in tl.static_range(HASH_BITS):
        projection = tl.load(projections + t * HASH_BITS + h, mask=t < n_vectors, other=0.0)
        z = (projection - tl.load(thresholds + h)) * tl.load(steepness + h)
        bit = (s >> (HASH_BITS - 1 - h)) & 1
        logits += z[:, None] * bit.to(tl.float32)[None, :]
    logits = tl.where((s < (1 << HASH_BITS))[None, :], logits, float("-inf"))
    weights = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    return weights / tl.sum(weights, axis=1)[:, None]


@triton.jit
def sign_and_average(
    x, bases, elements, hash, thresholds, codes, projections, means, sizes, counts,
    image_size, n_vectors, length, padded_length, n_slots, has_own_hash,
    HASH_BITS: tl.constexpr, BS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, ALIGN: tl.constexpr,
    KEEPS: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr, HASH_PRECISION: tl.constexpr,
):  # fmt: skip
    """`sign` and `average` in one pass over the vectors of group program_id(0) and image program_id(1).

    For signatures that are slots, vectors of at most BL elements and hashes that do not learn.
    """
    g, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    own = g * has_own_hash
    s, e, h = tl.arange(0, BS), tl.arange(0, BL), tl.arange(0, BITS)
    inside = (e < length)[:, None] & (h < HASH_BITS)[None, :]
    vectors = tl.load(hash + (own * length + e)[:, None] * HASH_BITS + h[None, :], mask=inside, other=0.0)
    threshold = tl.load(thresholds + own * HASH_BITS + h, mask=h < HASH_BITS, other=0.0)
    place = (b * tl.num_programs(0) + g) * n_vectors
    sums = tl.zeros((BS, BL), tl.float32)
    size = tl.zeros((BS,), tl.float32)
    for start in range(0, n_vectors, BN):
        t = start + tl.arange(0, BN)
        tile = load_vectors(x + b * image_size, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
        projected = tl.zeros((BN, BITS), tl.float32)
        projected = tl.dot(tile.to(tl.float32), vectors, projected, input_precision=HASH_PRECISION)
        code = codes_of(projected, threshold, h, HASH_BITS)
        tl.store(codes + place + t, code, mask=t < n_vectors)
        if KEEPS:
            kept = (t < n_vectors)[:, None] & (h < HASH_BITS)[None, :]
            tl.store(projections + (place + t)[:, None] * HASH_BITS + h[None, :], projected, mask=kept)
        is_member = ((s[:, None] == code[None, :]) & (t < n_vectors)[None, :]).to(tl.float32)
        sums = tl.dot(is_member.to(OPERAND), tile.to(OPERAND), sums, input_precision=PRECISION)
        size += tl.sum(is_member, axis=1)
    row = (g * tl.num_programs(1) + b) * n_slots + s
    mean = sums / tl.maximum(size, 1.0)[:, None]
    inside = (s < n_slots)[:, None] & (e < padded_length)[None, :]
    tl.store(means + row[:, None] * padded_length + e[None, :], mean.to(means.dtype.element_ty), mask=inside)
    tl.store(sizes + row, size, mask=s < n_slots)
    tl.store(counts + b * tl.num_programs(0) + g, tl.sum((size > 0).to(tl.int64), axis=0))


@triton.jit
def average(
    x, bases, elements, slots, projections, thresholds, steepness, means, sizes, counts,
    image_size, n_vectors, length, padded_length, n_slots, has_own_hash,
    HASH_BITS: tl.constexpr, BS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, ALIGN: tl.constexpr,
    SOFT: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Means of BS slots over BL elements, group program_id(1), image program_id(2); SOFT: soft ones of empty slots."""
    g, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_pieces = tl.cdiv(padded_length, BL)
    s = tl.program_id(0) // n_pieces * BS + tl.arange(0, BS)
    e = tl.program_id(0) % n_pieces * BL + tl.arange(0, BL)
    own = g * has_own_hash * HASH_BITS
    place = (b * tl.num_programs(1) + g) * n_vectors
    sums = tl.zeros((BS, BL), tl.float32)
    size = tl.zeros((BS,), tl.float32)
    soft_sums = tl.zeros((BS, BL), tl.float32)
    totals = tl.zeros((BS,), tl.float32)
    for start in range(0, n_vectors, BN):
        t = start + tl.arange(0, BN)
        tile = load_vectors(x + b * image_size, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
        tile = tile.to(OPERAND)
        slot = tl.load(slots + place + t, mask=t < n_vectors, other=-1)
        is_member = (s[:, None] == slot[None, :]).to(tl.float32)
        sums = tl.dot(is_member.to(OPERAND), tile, sums, input_precision=PRECISION)
        size += tl.sum(is_member, axis=1)
        if SOFT:
            p = find_memberships(
                projections + place * HASH_BITS, thresholds + own, steepness + g * BITS, t, n_vectors, s, HASH_BITS
            )
            p = tl.trans(tl.where((t < n_vectors)[:, None], p, 0.0))
            soft_sums = tl.dot(p.to(OPERAND), tile, soft_sums, input_precision=PRECISION)
            totals += tl.sum(p, axis=1)
    mean = sums / tl.maximum(size, 1.0)[:, None]
    if SOFT:
        mean = tl.where((size > 0)[:, None], mean, soft_sums / tl.maximum(totals, 1e-12)[:, None])
    row = (g * tl.num_programs(2) + b) * n_slots + s
    inside = (s < n_slots)[:, None] & (e < padded_length)[None, :]
    tl.store(means + row[:, None] * padded_length + e[None, :], mean.to(means.dtype.element_ty), mask=inside)
    if tl.program_id(0) % n_pieces == 0:
        tl.store(sizes + row, size, mask=s < n_slots)
        if n_slots <= BS:
            tl.store(counts + b * tl.num_programs(1) + g, tl.sum((size > 0).to(tl.int64), axis=0))


@triton.jit
def recover(
    products, bias, slots, uses, projections, y,
    n_vectors, n_outputs, n_slots, out_c, n_groups, n_parts,
    HASH_BITS: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, IS_EXACT: tl.constexpr,
):  # fmt: skip
    """BN outputs of BM channels of image program_id(1); IS_EXACT: the projections are the first channels."""
    b = tl.program_id(1).to(tl.int64)
    n_pieces = tl.cdiv(out_c, BM)
    i = tl.program_id(0) // n_pieces * BN + tl.arange(0, BN)
    m = tl.program_id(0) % n_pieces * BM + tl.arange(0, BM)
    inside = (i < n_outputs)[:, None] & (m < out_c)[None, :]
    total = tl.zeros((BN, BM), tl.float32) + tl.load(bias + m, mask=m < out_c, other=0.0).to(tl.float32)[None, :]
    for part in range(n_parts):
        t = tl.load(uses + part * n_outputs + i, mask=i < n_outputs, other=-1)
        for g in range(n_groups):
            place = (b * n_groups + g) * n_vectors
            slot = tl.load(slots + place + t, mask=t >= 0, other=0)
            row = ((g * tl.num_programs(1) + b) * n_slots + slot) * n_parts + part
            used = (t >= 0)[:, None] & (m < out_c)[None, :]
            total += tl.load(products + row[:, None] * out_c + m[None, :], mask=used, other=0.0).to(tl.float32)
            if IS_EXACT:
                known = (t >= 0)[:, None] & (m < HASH_BITS)[None, :]
                total += tl.load(projections + (place + t)[:, None] * HASH_BITS + m[None, :], mask=known, other=0.0)
    tl.store(y + (b * n_outputs + i)[:, None] * out_c + m[None, :], total.to(y.dtype.element_ty), mask=inside)
