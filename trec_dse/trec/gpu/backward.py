"""Triton kernels of the backward pass: exact for the clusters as they are, and soft memberships where the hash learns.

Tables are those of `forward.py`. `gradients` of means, (groups, images, slots, L), are sums over the members of a
slot; each member receives them over the slot's size.
"""

import triton
import triton.language as tl

from trec_dse.trec.gpu.forward import BITS, find_memberships, load_vectors


@triton.jit
def sum_outputs(
    dy, slots, uses, sums,
    n_vectors, n_outputs, n_slots, out_c, n_parts,
    BS: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output gradients summed over the users of BS slots: BM channels of one part; group and image as elsewhere."""
    g, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_pieces = tl.cdiv(out_c, BM)
    m = tl.program_id(0) % n_pieces * BM + tl.arange(0, BM)
    part = tl.program_id(0) // n_pieces % n_parts
    s = tl.program_id(0) // n_pieces // n_parts * BS + tl.arange(0, BS)
    place = (b * tl.num_programs(1) + g) * n_vectors
    total = tl.zeros((BS, BM), tl.float32)
    for start in range(0, n_outputs, BN):
        i = start + tl.arange(0, BN)
        t = tl.load(uses + part * n_outputs + i, mask=i < n_outputs, other=-1)
        slot = tl.load(slots + place + t, mask=t >= 0, other=-1)
        inside = (i < n_outputs)[:, None] & (m < out_c)[None, :]
        tile = tl.load(dy + (b * n_outputs + i)[:, None] * out_c + m[None, :], mask=inside, other=0.0)
        is_user = (s[:, None] == slot[None, :]).to(OPERAND)
        total = tl.dot(is_user, tile.to(OPERAND), total, input_precision=PRECISION)
    row = ((g * tl.num_programs(2) + b) * n_slots + s) * n_parts + part
    inside = (s < n_slots)[:, None] & (m < out_c)[None, :]
    tl.store(sums + row[:, None] * out_c + m[None, :], total.to(sums.dtype.element_ty), mask=inside)


@triton.jit
def learn_from_all(
    x, dy, bases, elements, users, projections, thresholds, steepness, means, sizes, products, gradients,
    to_projections, to_thresholds, to_hash,
    image_size, n_vectors, n_outputs, length, padded_length, out_c, n_parts, has_own_hash,
    HASH_BITS: tl.constexpr, BS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, BM: tl.constexpr,
    ALIGN: tl.constexpr, SUMS: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of the projections of group program_id(0) and image program_id(1) through all memberships.

    SUMS, for vectors of at most BL elements, also gives what this image adds to the gradient of the hash.
    """
    g, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n_slots: tl.constexpr = 1 << HASH_BITS
    own = g * has_own_hash * HASH_BITS
    s, h = tl.arange(0, BS), tl.arange(0, BITS)
    place = (b * tl.num_programs(0) + g) * n_vectors
    image = g * tl.num_programs(1) + b
    table = image * n_slots  # the first slot of this image and group
    size = tl.load(sizes + table + s, mask=s < n_slots, other=0.0)
    share = tl.where(size > 0, 1 / tl.maximum(size, 1.0), 0.0)
    steep = tl.load(steepness + g * BITS + h, mask=h < HASH_BITS, other=0.0)
    bits = (((s[:, None] >> tl.maximum(HASH_BITS - 1 - h, 0)[None, :]) & 1) * (h < HASH_BITS)[None, :]).to(tl.float32)
    for_thresholds = tl.zeros((BITS,), tl.float32)
    for_hash = tl.zeros((BL, BITS), tl.float32)
    for first in range(0, n_vectors, BN):
        t = first + tl.arange(0, BN)
        moved = tl.zeros((BN, BS), tl.float32)  # what the loss gains by moving to slot s
        for part in range(n_parts):
            i = tl.load(users + part * n_vectors + t, mask=t < n_vectors, other=-1)
            for start in range(0, out_c, BM):
                m = start + tl.arange(0, BM)
                used = (i >= 0)[:, None] & (m < out_c)[None, :]
                output = tl.load(dy + (b * n_outputs + i)[:, None] * out_c + m[None, :], mask=used, other=0.0)
                inside = (m < out_c)[:, None] & (s < n_slots)[None, :]
                row = ((table + s) * n_parts + part) * out_c
                product = tl.load(products + row[None, :] + m[:, None], mask=inside, other=0.0)
                moved = tl.dot(output.to(OPERAND), product.to(OPERAND), moved, input_precision=PRECISION)
        pulled = tl.zeros((BN, BS), tl.float32)  # and by the centroids' moving towards the vectors
        constant = tl.zeros((BS,), tl.float32)
        vectors = tl.zeros((BN, BL), x.dtype.element_ty)
        for start in range(0, length, BL):
            e = start + tl.arange(0, BL)
            vectors = load_vectors(x + b * image_size, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
            inside = (e < length)[:, None] & (s < n_slots)[None, :]
            row = (table + s)[None, :] * padded_length + e[:, None]
            towards = tl.load(gradients + row, mask=inside, other=0.0)
            mean = tl.load(means + row, mask=inside, other=0.0)
            constant += tl.sum(mean.to(tl.float32) * towards.to(tl.float32), axis=0)
            pulled = tl.dot(vectors.to(OPERAND), towards.to(OPERAND), pulled, input_precision=PRECISION)
        moved += (pulled - constant[None, :]) * share[None, :]
        p = find_memberships(
            projections + place * HASH_BITS, thresholds + own, steepness + g * BITS, t, n_vectors, s, HASH_BITS
        )
        to_logits = p * (moved - tl.sum(p * moved, axis=1)[:, None])
        slope = tl.dot(to_logits, bits, tl.zeros((BN, BITS), tl.float32), input_precision=PRECISION) * steep[None, :]
        slope = tl.where((t < n_vectors)[:, None], slope, 0.0)
        inside = (t < n_vectors)[:, None] & (h < HASH_BITS)[None, :]
        tl.store(to_projections + (place + t)[:, None] * HASH_BITS + h[None, :], slope, mask=inside)
        for_thresholds -= tl.sum(slope, axis=0)
        if SUMS:
            for_hash = tl.dot(tl.trans(vectors.to(tl.float32)), slope, for_hash, input_precision=PRECISION)
    tl.store(to_thresholds + image * HASH_BITS + h, for_thresholds, mask=h < HASH_BITS)
    if SUMS:
        e = tl.arange(0, BL)
        row = (b * tl.num_programs(0) + g) * length + e
        inside = (e < length)[:, None] & (h < HASH_BITS)[None, :]
        tl.store(to_hash + row[:, None] * HASH_BITS + h[None, :], for_hash, mask=inside)


@triton.jit
def weigh_neighbours(
    x, dy, bases, elements, users, codes, reverse, means, sizes, products, weights, gradients, moves,
    image_size, n_vectors, n_outputs, length, padded_length, out_c, n_slots, n_parts, n_codes,
    HASH_BITS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, BM: tl.constexpr,
    ALIGN: tl.constexpr, OPERAND: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What the loss gains by moving BN vectors to their own slot (column 0) and to that one bit away (1 + h).

    A vector that moves where nobody is would be alone there, and so its own mean.
    """
    g, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BN + tl.arange(0, BN)
    place = b * tl.num_programs(1) + g
    code = tl.load(codes + place * n_vectors + t, mask=t < n_vectors, other=0)
    image = x + b * image_size
    table = (g * tl.num_programs(2) + b) * n_slots
    alone = tl.zeros((BN,), tl.float32)
    for part in range(n_parts):
        i = tl.load(users + part * n_vectors + t, mask=t < n_vectors, other=-1)
        for start in range(0, out_c, BM):
            m = start + tl.arange(0, BM)
            output = tl.zeros((BN, BM), tl.float32)
            for first in range(0, length, BL):
                e = first + tl.arange(0, BL)
                tile = load_vectors(image, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
                row = ((g * padded_length + e) * n_parts + part) * out_c
                inside = (e < length)[:, None] & (m < out_c)[None, :]
                weight = tl.load(weights + row[:, None] + m[None, :], mask=inside, other=0.0)
                output = tl.dot(tile.to(OPERAND), weight.to(OPERAND), output, input_precision=PRECISION)
            used = (i >= 0)[:, None] & (m < out_c)[None, :]
            tile = tl.load(dy + (b * n_outputs + i)[:, None] * out_c + m[None, :], mask=used, other=0.0)
            alone += tl.sum(output * tile.to(tl.float32), axis=1)
    for column in range(HASH_BITS + 1):
        flipped = code ^ ((1 << HASH_BITS) >> column & (n_codes - 1))
        slot = tl.load(reverse + place * n_codes + flipped, mask=t < n_vectors, other=-1)
        moved = tl.zeros((BN,), tl.float32)
        for part in range(n_parts):
            i = tl.load(users + part * n_vectors + t, mask=t < n_vectors, other=-1)
            for start in range(0, out_c, BM):
                m = start + tl.arange(0, BM)
                used = ((i >= 0) & (slot >= 0))[:, None] & (m < out_c)[None, :]
                tile = tl.load(dy + (b * n_outputs + i)[:, None] * out_c + m[None, :], mask=used, other=0.0)
                row = ((table + slot) * n_parts + part) * out_c
                product = tl.load(products + row[:, None] + m[None, :], mask=used, other=0.0)
                moved += tl.sum(tile.to(tl.float32) * product.to(tl.float32), axis=1)
        pulled = tl.zeros((BN,), tl.float32)
        for first in range(0, length, BL):
            e = first + tl.arange(0, BL)
            tile = load_vectors(image, bases, elements + g * length, t, n_vectors, e, length, ALIGN).to(tl.float32)
            inside = (slot >= 0)[:, None] & (e < length)[None, :]
            row = (table + slot)[:, None] * padded_length + e[None, :]
            towards = tl.load(gradients + row, mask=inside, other=0.0).to(tl.float32)
            mean = tl.load(means + row, mask=inside, other=0.0).to(tl.float32)
            pulled += tl.sum((tile - mean) * towards, axis=1)
        size = tl.load(sizes + table + slot, mask=slot >= 0, other=1.0)
        moved = tl.where(slot >= 0, moved + pulled / size, alone)
        tl.store(moves + (place * n_vectors + t) * BITS + column, moved, mask=t < n_vectors)


@triton.jit
def learn_from_neighbours(
    codes, projections, thresholds, steepness, moves, to_projections, to_thresholds,
    n_vectors, has_own_hash,
    HASH_BITS: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """From the moves of `weigh_neighbours` to the gradient of the projections of BN vectors."""
    g, b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    t, column = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BITS)
    h = tl.maximum(column - 1, 0)  # column 0 stands for the own cluster
    is_bit = (column > 0) & (column <= HASH_BITS)
    place = (b * tl.num_programs(1) + g) * n_vectors
    code = tl.load(codes + place + t, mask=t < n_vectors, other=0)
    inside = (t < n_vectors)[:, None] & is_bit[None, :]
    at = (place + t)[:, None] * HASH_BITS + h[None, :]
    own = g * has_own_hash * HASH_BITS
    steep = tl.load(steepness + g * BITS + h, mask=is_bit, other=0.0)
    threshold = tl.load(thresholds + own + h, mask=is_bit, other=0.0)
    bit = (code[:, None] >> tl.maximum(HASH_BITS - 1 - h, 0)[None, :]) & 1
    flip = (1.0 - 2.0 * bit.to(tl.float32)) * steep[None, :]
    logits = flip * (tl.load(projections + at, mask=inside, other=0.0) - threshold[None, :])
    logits = tl.where((column <= HASH_BITS)[None, :], logits, float("-inf"))
    p = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    p = p / tl.sum(p, axis=1)[:, None]
    moved = tl.load(
        moves + (place + t)[:, None] * BITS + column[None, :],
        mask=(t < n_vectors)[:, None] & (column <= HASH_BITS)[None, :],
        other=0.0,
    )
    gradient = tl.where(inside, p * (moved - tl.sum(p * moved, axis=1)[:, None]) * flip, 0.0)
    tl.store(to_projections + at, gradient, mask=inside)
    row = (g * tl.num_programs(2) + b) * tl.num_programs(0) + tl.program_id(0)
    tl.store(to_thresholds + row * HASH_BITS + h, -tl.sum(gradient, axis=0), mask=is_bit)


@triton.jit
def sum_hash(
    x, bases, elements, to_projections, sums,
    n_images, image_size, n_vectors, length,
    HASH_BITS: tl.constexpr, BN: tl.constexpr, BL: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of BL elements of the hash of group program_id(1), over every num_programs(2)-th image."""
    g, share = tl.program_id(1), tl.program_id(2)
    e, h = tl.program_id(0) * BL + tl.arange(0, BL), tl.arange(0, BITS)
    total = tl.zeros((BL, BITS), tl.float32)
    for turn in range(tl.cdiv(n_images - share, tl.num_programs(2))):
        b = share.to(tl.int64) + turn * tl.num_programs(2)
        place = (b * tl.num_programs(1) + g) * n_vectors
        for start in range(0, n_vectors, BN):
            t = start + tl.arange(0, BN)
            tile = load_vectors(x + b * image_size, bases, elements + g * length, t, n_vectors, e, length, ALIGN)
            inside = (t < n_vectors)[:, None] & (h < HASH_BITS)[None, :]
            slope = tl.load(to_projections + (place + t)[:, None] * HASH_BITS + h[None, :], mask=inside, other=0.0)
            total = tl.dot(tl.trans(tile.to(tl.float32)), slope, total, input_precision=PRECISION)
    inside = (e < length)[:, None] & (h < HASH_BITS)[None, :]
    row = (share * tl.num_programs(1) + g) * length + e
    tl.store(sums + row[:, None] * HASH_BITS + h[None, :], total, mask=inside)


@triton.jit
def pass_to_images(
    dx, slots, sources, tap_groups, tap_elements, sizes, gradients, to_projections, hash,
    n_taps, n_groups, n_pixels, n_vectors, n_slots, length, padded_length, channels, depth, has_own_hash,
    HASH_BITS: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, LEARNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of BN pixels in BC of the `depth` channels that each slice keeps together; image program_id(1)."""
    b = tl.program_id(1).to(tl.int64)
    n_pieces = tl.cdiv(depth, BC)
    n_blocks = channels // depth
    inner = tl.program_id(0) % n_pieces * BC + tl.arange(0, BC)
    block = tl.program_id(0) // n_pieces % n_blocks
    pixel = tl.program_id(0) // n_pieces // n_blocks * BN + tl.arange(0, BN)
    h = tl.arange(0, BITS)
    total = tl.zeros((BN, BC), tl.float32)
    for tap in range(n_taps):
        t = tl.load(sources + tap * n_pixels + pixel, mask=pixel < n_pixels, other=-1)
        g = tl.load(tap_groups + tap * n_blocks + block)
        e = tl.load(tap_elements + tap * n_blocks + block) + inner
        place = (b * n_groups + g) * n_vectors
        slot = tl.load(slots + place + t, mask=t >= 0, other=0)
        row = (g * tl.num_programs(1) + b) * n_slots + slot
        size = tl.load(sizes + row, mask=t >= 0, other=1.0)
        used = (t >= 0)[:, None] & (inner < depth)[None, :]
        summed = tl.load(gradients + row[:, None] * padded_length + e[None, :], mask=used, other=0.0)
        total += summed.to(tl.float32) / size[:, None]
        if LEARNS:
            used = (t >= 0)[:, None] & (h < HASH_BITS)[None, :]
            slope = tl.load(to_projections + (place + t)[:, None] * HASH_BITS + h[None, :], mask=used, other=0.0)
            inside = (inner < depth)[None, :] & (h < HASH_BITS)[:, None]
            own = g * has_own_hash * length
            vectors = tl.load(hash + (own + e)[None, :] * HASH_BITS + h[:, None], mask=inside, other=0.0)
            total = tl.dot(slope, vectors, total, input_precision=PRECISION)
    c = block * depth + inner
    inside = (pixel < n_pixels)[:, None] & (inner < depth)[None, :]
    at = (b * n_pixels + pixel)[:, None] * channels + c[None, :]
    tl.store(dx + at, total.to(dx.dtype.element_ty), mask=inside)
