/* TREC int8 convolution with the two-step stack.
 *
 * Step one walks over the rows of a slice, four at a time: a signature that was not seen yet pushes its row onto
 * the stack, any other adds its row to the entry that the reverse table names. Step two divides each entry by its
 * count: the stack then is the matrix of centroids. Signatures come from the int32 projections, never from rounded
 * ones. Rows, stack and centroids all stand in blocks of four (arch/portable.h), so that hashing and the products
 * of the centroids are the same inner loop as a dense convolution's.
 */
#include "trec_trec_conv2d_s8.h"

#include "trec_arch.h"   /* defines: trec_multiply, trec_add_row, trec_look_up */
#include "trec_rows.h"   /* defines: trec_rows, trec_rows_requantize */
#include "trec_window.h" /* defines: trec_slice, trec_window_block */

enum { UNSEEN = 0xFFFF };
enum { MOST_BITS = 12 };
enum { TILE = 4 }; /* output channels whose products are alive at a time */

/* The scratch of one call, cut into its arrays: widest elements first, so that none needs padding. */
typedef struct {
    int32_t acc_c;        /* accumulators per position: accumulate: out_c; gather: exact_c */
    int32_t *acc;         /* (positions, acc_c) */
    int32_t *sums;        /* the stack, as blocks: (max_clusters / 4, length / 2, 4, 2), both rounded up */
    int32_t *values;      /* products of the centroids with TILE kernels; (max_clusters, TILE) per slice alive */
    int16_t *block;       /* four rows of a slice */
    int16_t *centroids;   /* per slice alive as sums; else over sums */
    uint16_t *counts;     /* (max_clusters) */
    uint16_t *found;      /* gather: (n_slices), clusters of each slice */
    uint16_t *reverse;    /* (2^hash_bits): signature -> cluster */
    uint16_t *signatures; /* (max_clusters) */
    uint8_t *clusters;    /* (positions) or (n_slices, positions): the cluster of each row */
} workspace;

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t count_positions(const trec_trec_conv2d *p)
{
    return p->window.out_h * p->window.out_w;
}

static int32_t count_pairs(const trec_trec_conv2d *p)
{
    return (p->length + 1) / 2;
}

/* Elements of the stack of one slice, with places for whole blocks. */
static int32_t stack_size(const trec_trec_conv2d *p)
{
    return (p->max_clusters + 3) / 4 * 8 * count_pairs(p);
}

static int32_t values_size(const trec_trec_conv2d *p)
{
    return (p->max_clusters + 3) / 4 * 4 * TILE;
}

/* Bytes that both schedules need: sums, counts, reverse table, signatures, four rows. */
static int32_t common_bytes(const trec_trec_conv2d *p)
{
    return 4 * stack_size(p) + 4 * p->max_clusters + 2 * ((int32_t)1 << p->hash_bits) + 16 * count_pairs(p);
}

int32_t trec_trec_conv2d_scratch_bytes(const trec_trec_conv2d *p)
{
    return common_bytes(p) + count_positions(p) * (4 * p->out_c + 1) + 4 * values_size(p);
}

int32_t trec_trec_conv2d_gather_scratch_bytes(const trec_trec_conv2d *p)
{
    const int32_t alive = 4 * values_size(p) + 2 * stack_size(p) + 2;
    return common_bytes(p) + count_positions(p) * (4 * p->exact_c + p->n_slices) + p->n_slices * alive;
}

/* n_alive: slices alive at once; n_kept: slices whose centroids are kept. */
static workspace cut(const trec_trec_conv2d *p, void *scratch, int32_t acc_c, int32_t n_alive, int32_t n_kept)
{
    workspace w;
    w.acc_c = acc_c;
    w.acc = scratch;
    w.sums = w.acc + count_positions(p) * acc_c;
    w.values = w.sums + stack_size(p);
    w.block = (int16_t *)(w.values + n_alive * values_size(p));
    w.centroids = w.block + 8 * count_pairs(p);
    w.counts = (uint16_t *)(w.centroids + n_kept * stack_size(p));
    w.found = w.counts + p->max_clusters;
    w.reverse = w.found + n_kept;
    w.signatures = w.reverse + ((int32_t)1 << p->hash_bits);
    w.clusters = (uint8_t *)(w.signatures + p->max_clusters);
    return w;
}

/* One bit of the signatures of four rows: whether the projections: (4) exceed the threshold. */
static void append_bit(const int32_t *projections, int32_t threshold, uint32_t *signatures)
{
    for (int32_t r = 0; r < 4; r++) {
        signatures[r] = signatures[r] << 1 | (projections[r] > threshold ? 1u : 0u);
    }
}

/* Signatures: (4) of the rows in the block, first hash vector first. exact: where kernel reuse adds its projections
 * of n rows, acc_c apart; else NULL. */
static void sign(const trec_trec_conv2d *p, const workspace *w, int32_t slice, int32_t n, int32_t *exact,
                 uint32_t *signatures)
{
    const int32_t *thresholds = p->thresholds + slice * p->threshold_slice;
    const trec_kernels hash = {
        .first = p->hash + slice * p->hash_slice,
        .step = p->hash_step,
        .count = (p->hash_bits + 1) / 2,
        .n_pairs = count_pairs(p),
    };
    int32_t projections[4 * MOST_BITS];
    __builtin_memset(projections, 0, (size_t)hash.count * 32u);
    __builtin_memset(signatures, 0, 4 * sizeof *signatures);
    trec_multiply(w->block, &hash, projections);
    for (int32_t h = 0; h < p->hash_bits; h++) {
        const int32_t *own = projections + 4 * h;
        append_bit(own, thresholds[h], signatures);
        for (int32_t r = 0; exact != NULL && r < n; r++) {
            exact[r * w->acc_c + h] += own[r];
        }
    }
}

/* The existing cluster whose signature differs in the fewest bits; the oldest on ties. */
static uint16_t nearest(const uint16_t *signatures, int32_t n, uint32_t signature)
{
    int32_t best = 0;
    int32_t best_distance = INT32_MAX;
    for (int32_t c = 0; c < n; c++) {
        int32_t distance = 0;
        for (uint32_t rest = signatures[c] ^ signature; rest != 0; rest &= rest - 1) {
            distance++;
        }
        if (distance < best_distance) {
            best = c;
            best_distance = distance;
        }
    }
    return (uint16_t)best;
}

/* Where a cluster's entry stands in the stack. */
static int32_t *entry(const trec_trec_conv2d *p, const workspace *w, int32_t cluster)
{
    return w->sums + cluster / 4 * 8 * count_pairs(p) + cluster % 4 * 2;
}

/* Pushes a row whose signature is new, as long as the stack has room; after that, signatures join others' clusters.
 * Returns the number of clusters. */
static int32_t push(const trec_trec_conv2d *p, const workspace *w, int32_t n, uint32_t signature, const int16_t *row)
{
    if (n == p->max_clusters) {
        w->reverse[signature] = nearest(w->signatures, n, signature);
        return n;
    }
    int32_t *sums = entry(p, w, n);
    for (int32_t j = 8 * (count_pairs(p) - 1); j >= 0; j -= 8) {
        sums[j] = row[j];
        sums[j + 1] = row[j + 1];
    }
    w->counts[n] = 1;
    w->signatures[n] = (uint16_t)signature;
    w->reverse[signature] = (uint16_t)n;
    return n + 1;
}

/* Step one for one slice; fills sums, counts and clusters: (positions). Returns the number of clusters. */
static int32_t cluster_rows(const trec_trec_conv2d *p, const int8_t *input, int32_t slice, const workspace *w,
                            uint8_t *clusters)
{
    const int32_t positions = count_positions(p);
    const trec_slice part = {.first = slice * p->length, .n = p->length};
    int32_t n_clusters = 0;
    __builtin_memset(w->reverse, UNSEEN & 0xFF, (size_t)2 << p->hash_bits);
    for (int32_t i = 0; i < positions; i += 4) {
        const int32_t n = smaller(4, positions - i);
        uint32_t signatures[4];
        trec_window_block(&p->window, input, p->in_zero, i, part, w->block);
        sign(p, w, slice, n, p->exact_c > 0 ? w->acc + i * w->acc_c : NULL, signatures);
        for (int32_t r = 0; r < n; r++) {
            const int16_t *row = w->block + 2 * r;
            const int32_t known = n_clusters;
            if (w->reverse[signatures[r]] == UNSEEN) {
                n_clusters = push(p, w, known, signatures[r], row);
            }
            const int32_t cluster = w->reverse[signatures[r]];
            if (n_clusters == known) {
                trec_add_row(row, count_pairs(p), entry(p, w, cluster));
                w->counts[cluster]++;
            }
            clusters[i + r] = (uint8_t)cluster;
        }
    }
    return n_clusters;
}

/* The mean of a pair of sums, as divide_sums wants it. */
static void divide_pair(const int32_t *sums, int32_t count, int32_t zero, int32_t one, int16_t *centroid)
{
    const int32_t first = sums[0], second = sums[1];
    centroid[0] = (int16_t)trec_divide((first - zero) * one, count);
    centroid[1] = (int16_t)trec_divide((second - zero) * one, count);
}

/* Step two: the mean of each cluster minus the zero point, with fraction_bits. centroids may lie over sums: pairs are
 * written in the order in which they were read, and are half as wide. Places without a cluster and the one behind an
 * odd length hold zeros. */
static void divide_sums(const trec_trec_conv2d *p, const workspace *w, int32_t n, int16_t *centroids)
{
    const int32_t size = 8 * count_pairs(p);
    const int32_t one = (int32_t)1 << p->fraction_bits;
    for (int32_t first = 0; first < n; first += 4) {
        const int32_t *sums = w->sums + first / 4 * size;
        int16_t *block = centroids + first / 4 * size;
        int32_t counts[4], zeros[4];
        for (int32_t c = 0; c < 4; c++) {
            counts[c] = first + c < n ? w->counts[first + c] : 0;
            zeros[c] = counts[c] * p->in_zero;
        }
        for (int32_t e = 0; e < size; e += 8) {
            for (int32_t c = 0; c < 4; c++) {
                if (counts[c] > 0) {
                    divide_pair(sums + e + 2 * c, counts[c], zeros[c], one, block + e + 2 * c);
                } else {
                    block[e + 2 * c] = block[e + 2 * c + 1] = 0;
                }
            }
        }
        for (int32_t c = 0; p->length % 2 != 0 && c < 4; c++) {
            block[size - 7 + 2 * c] = 0;
        }
    }
}

/* Products of n centroids with the parts of the kernels m ... m + TILE - 1 that belong to the slice; 0 for kernels
 * that are none or are computed densely. centroids: blocks, values: (n, TILE) */
static void multiply(const trec_trec_conv2d *p, const int16_t *centroids, int32_t n, int32_t slice, int32_t m,
                     int32_t *values)
{
    const int32_t vector = 4 * count_pairs(p); /* bytes of a slice of two kernels */
    const trec_kernels kernels = {
        .first = p->weights + (m / 2 * p->n_slices + slice) * vector,
        .step = p->n_slices * vector,
        .count = m + 2 < p->out_c ? 2 : 1,
        .n_pairs = count_pairs(p),
    };
    for (int32_t first = 0; first < n; first += 4) {
        int32_t products[4 * TILE] = {0};
        trec_multiply(centroids + first * 2 * count_pairs(p), &kernels, products);
        for (int32_t c = 0; c < TILE; c++) {
            for (int32_t r = 0; r < 4; r++) {
                values[(first + r) * TILE + c] = m + c >= p->exact_c ? products[4 * c + r] : 0;
            }
        }
    }
}

/* Adds each row's products to its accumulators of the channels m ... m + TILE - 1. */
static void add_values(const trec_trec_conv2d *p, const workspace *w, int32_t m)
{
    const int32_t positions = count_positions(p);
    int32_t *acc = w->acc + m;
    for (int32_t i = 0; i < positions; i++, acc += p->out_c) {
        const int32_t *values = w->values + w->clusters[i] * TILE;
        if (m + TILE <= p->out_c) {
            acc[0] += values[0];
            acc[1] += values[1];
            acc[2] += values[2];
            acc[3] += values[3];
        } else {
            for (int32_t j = 0; m + j < p->out_c; j++) {
                acc[j] += values[j];
            }
        }
    }
}

/* Before the first slice: the bias, in the fixed point of the sums that will be added to it. */
static void start(const trec_trec_conv2d *p, const workspace *w)
{
    const int32_t end = count_positions(p) * w->acc_c;
    for (int32_t m = 0; m < w->acc_c; m++) {
        const int32_t bias = m < p->exact_c ? p->bias[m] : p->bias[m] * ((int32_t)1 << p->fraction_bits);
        for (int32_t i = m; i < end; i += w->acc_c) {
            w->acc[i] = bias;
        }
    }
}

/* After the last slice: the accumulators to outputs, a tile of channels of four positions at a time. */
static void finish(const trec_trec_conv2d *p, const workspace *w, int8_t *output)
{
    const int32_t positions = count_positions(p);
    const int32_t acc_c = w->acc_c;
    trec_rows rows = {.out_c = p->out_c};
    for (int32_t i = 0; i < positions; i += 4) {
        rows.n = smaller(4, positions - i);
        for (rows.first = 0; rows.first < acc_c; rows.first += rows.count) {
            const int32_t *acc = w->acc + i * acc_c + rows.first;
            int32_t sums[4 * TILE] = {0};
            rows.count = smaller(TILE, acc_c - rows.first);
            for (int32_t c = 0; c < rows.count; c++) {
                const int32_t factor = rows.first + c < p->exact_c ? (int32_t)1 << p->fraction_bits : 1;
                for (int32_t r = 0; r < rows.n; r++) {
                    sums[4 * c + r] = acc[r * acc_c + c] * factor;
                }
            }
            trec_rows_requantize(&p->rescale, &rows, sums, output + i * p->out_c);
        }
    }
}

uint32_t trec_trec_conv2d_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch, p->out_c, 1, 0);
    int16_t *centroids = (int16_t *)w.sums;
    uint32_t total = 0;
    start(p, &w);
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int32_t n = cluster_rows(p, input, slice, &w, w.clusters);
        divide_sums(p, &w, n, centroids);
        for (int32_t m = p->exact_c / TILE * TILE; m < p->out_c; m += TILE) {
            multiply(p, centroids, n, slice, m, w.values);
            add_values(p, &w, m);
        }
        total += (uint32_t)n;
    }
    finish(p, &w, output);
    return total;
}

/* The channels m ... m + TILE - 1 of all positions, from the centroids of all slices. output: (positions, out_c) */
static void recover(const trec_trec_conv2d *p, const workspace *w, int32_t m, int8_t *output)
{
    const int32_t positions = count_positions(p);
    const int32_t first = m < p->exact_c ? p->exact_c : m;
    const int32_t end = smaller(m + TILE, p->out_c);
    const int32_t step = values_size(p);
    trec_rows rows = {.first = first, .count = end - first, .out_c = p->out_c};
    trec_lookup lookup = {.table = w->values, .step = 4 * step, .n_positions = positions, .n_slices = p->n_slices};
    int32_t sums[4 * TILE] = {0};
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int16_t *centroids = w->centroids + slice * stack_size(p);
        multiply(p, centroids, w->found[slice], slice, m, w->values + slice * step);
    }
    for (int32_t c = m; c < end; c++) {
        lookup.start[c - m] = p->bias[c] * ((int32_t)1 << p->fraction_bits);
    }
    for (int32_t i = 0; i < positions; i += 4) {
        rows.n = smaller(4, positions - i);
        trec_look_up(&lookup, w->clusters + i, rows.n, sums);
        trec_rows_requantize(&p->rescale, &rows, sums + 4 * (first - m), output + i * p->out_c);
    }
}

uint32_t trec_trec_conv2d_gather_s8(const trec_trec_conv2d *p, const int8_t *input, void *scratch, int8_t *output)
{
    const workspace w = cut(p, scratch, p->exact_c, p->n_slices, p->n_slices);
    const int32_t positions = count_positions(p);
    uint32_t total = 0;
    start(p, &w);
    for (int32_t slice = 0; slice < p->n_slices; slice++) {
        const int32_t n = cluster_rows(p, input, slice, &w, w.clusters + slice * positions);
        divide_sums(p, &w, n, w.centroids + slice * stack_size(p));
        w.found[slice] = (uint16_t)n;
        total += (uint32_t)n;
    }
    finish(p, &w, output);
    for (int32_t m = p->exact_c / TILE * TILE; m < p->out_c; m += TILE) {
        recover(p, &w, m, output);
    }
    return total;
}
