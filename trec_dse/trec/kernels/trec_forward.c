/* The forward pass: vectors are signed and clustered, every output adds up the products of its centroids. */
#include "trec_shared.h"

enum { UNSEEN = 0xFFFF };

typedef struct {
    float *padded;      /* (in_h + 2 pad_h, in_w + 2 pad_w, in_c) */
    float *rows;        /* (n_vectors, length_p) */
    float *projections; /* (n_vectors, hash_bits_p) */
    float *means;       /* (max_clusters, length_p) */
    float *shares;      /* (max_clusters) */
    float *products;    /* (max_clusters, out_c_p) */
    float *outputs;     /* (n_outputs, out_c_p) */
    uint16_t *reverse;  /* (2^hash_bits): signature -> cluster */
} workspace;

static workspace cut(const job *j, scratch_space *scratch)
{
    const int64_t length_p = round_up(j->length);
    const int64_t out_p = round_up(j->out_c);
    workspace w;
    w.padded = take(scratch, padded_floats(j));
    w.rows = take(scratch, j->n_vectors * length_p + LANES);
    w.projections = take(scratch, (int64_t)j->n_vectors * round_up(j->hash_bits));
    w.means = take(scratch, j->max_clusters * length_p);
    w.shares = take(scratch, j->max_clusters);
    w.products = take(scratch, j->max_clusters * out_p);
    w.outputs = take(scratch, j->n_outputs * out_p);
    w.reverse = (uint16_t *)take(scratch, ((int64_t)1 << j->hash_bits) / 2 + 1);
    return w;
}

int32_t trec_lanes(void)
{
    return LANES;
}

int64_t trec_forward_scratch(const job *j)
{
    scratch_space scratch = {NULL, 0};
    cut(j, &scratch);
    return scratch.used;
}

/* The existing cluster whose signature differs in the fewest bits; the oldest on ties. */
static uint16_t nearest(const uint16_t *codes, int32_t n, uint32_t code)
{
    int32_t best = 0;
    int32_t best_distance = INT32_MAX;
    for (int32_t c = 0; c < n; c++) {
        const int32_t distance = __builtin_popcount(codes[c] ^ code);
        if (distance < best_distance) {
            best = c;
            best_distance = distance;
        }
    }
    return (uint16_t)best;
}

/* Clusters of the vectors in order of first appearance; returns their number. */
static int32_t assign(const job *j, const workspace *w, const float *thresholds, uint16_t *clusters, uint16_t *codes)
{
    int32_t n = 0;
    for (int32_t code = 0; code < (int32_t)1 << j->hash_bits; code++) {
        w->reverse[code] = UNSEEN;
    }
    for (int32_t t = 0; t < j->n_vectors; t++) {
        const float *projection = w->projections + (int64_t)t * round_up(j->hash_bits);
        uint32_t code = 0;
        for (int32_t h = 0; h < j->hash_bits; h++) {
            code = code << 1 | (projection[h] > thresholds[h] ? 1u : 0u);
        }
        if (w->reverse[code] == UNSEEN && n < j->max_clusters) {
            codes[n] = (uint16_t)code;
            w->reverse[code] = (uint16_t)n++;
        } else if (w->reverse[code] == UNSEEN) {
            w->reverse[code] = nearest(codes, n, code);
        }
        clusters[t] = w->reverse[code];
    }
    return n;
}

static void add_moments(const job *j, const float *projections, double *moments)
{
    for (int32_t h = 0; h < j->hash_bits; h++) {
        double sum = 0;
        double squares = 0;
        for (int32_t t = 0; t < j->n_vectors; t++) {
            const double value = projections[(int64_t)t * round_up(j->hash_bits) + h];
            sum += value;
            squares += value * value;
        }
        moments[h] += sum;
        moments[j->hash_bits + h] += squares;
    }
}

/* Adds the products of the centroids of one group to the outputs. */
static void recover(const job *j, const workspace *w, int32_t group, const uint16_t *clusters, int32_t n_clusters)
{
    const int32_t length_p = round_up(j->length);
    const int32_t out_p = round_up(j->out_c);
    for (int32_t part = 0; part < j->n_parts; part++) {
        const int32_t *uses = j->uses + (int64_t)part * j->n_outputs;
        const float *weights = j->weights + ((int64_t)group * j->n_parts + part) * j->length * out_p;
        multiply(n_clusters, out_p, j->length, by_rows(w->means, length_p), weights, out_p, w->products, out_p, 0);
        for (int32_t i = 0; i < j->n_outputs; i++) {
            if (uses[i] >= 0) {
                add_row(w->outputs + (int64_t)i * out_p, w->products + (int64_t)clusters[uses[i]] * out_p, out_p);
            }
        }
    }
}

static void add_projections(const job *j, const workspace *w)
{
    for (int32_t i = 0; i < j->n_outputs; i++) {
        for (int32_t h = 0; h < j->exact_c; h++) {
            w->outputs[(int64_t)i * round_up(j->out_c) + h] +=
                w->projections[(int64_t)i * round_up(j->hash_bits) + h];
        }
    }
}

static void store_outputs(const job *j, int32_t n, const float *outputs)
{
    float *to = j->y.first + n * j->y.image;
    const int32_t out_p = round_up(j->out_c);
    if (j->y.channel != 1) {
        flip(j->n_outputs, j->out_c, outputs, out_p, to, j->y.channel);
        return;
    }
    for (int32_t i = 0; i < j->n_outputs; i++) {
        __builtin_memcpy(to + i * j->y.pixel, outputs + (int64_t)i * out_p, sizeof(float) * (size_t)j->out_c);
    }
}

static void run_group(const job *j, const workspace *w, int32_t n, int32_t group, const totals *sums)
{
    const int32_t bits_p = round_up(j->hash_bits);
    const int64_t place = (int64_t)n * j->n_groups + group;
    const int32_t own = group * j->has_own_hash;
    uint16_t *clusters = j->clusters + place * j->n_vectors;
    gather(j, w->padded, group, w->rows);
    multiply(j->n_vectors, bits_p, j->length, by_rows(w->rows, round_up(j->length)),
             j->hash + (int64_t)own * j->length * bits_p, bits_p, w->projections, bits_p, 0);
    if (sums->moments != NULL) {
        add_moments(j, w->projections, sums->moments + (int64_t)group * 2 * j->hash_bits);
    }
    add_projections(j, w);
    const int32_t n_clusters =
        assign(j, w, j->thresholds + (int64_t)own * bits_p, clusters, j->codes + place * j->max_clusters);
    j->counts[place] = n_clusters;
    average(j, w->rows, clusters, n_clusters, w->means, w->shares);
    recover(j, w, group, clusters, n_clusters);
}

void trec_forward(const job *j, const share *mine)
{
    scratch_space space = {mine->scratch, 0};
    const workspace w = cut(j, &space);
    const int32_t out_p = round_up(j->out_c);
    clear(w.padded, padded_floats(j));
    clear(w.rows, j->n_vectors * (int64_t)round_up(j->length)); /* what pads a row is never used, but added up */
    for (int32_t n = mine->first; n < mine->behind; n++) {
        load_image(j, n, w.padded);
        for (int32_t i = 0; i < j->n_outputs; i++) {
            __builtin_memcpy(w.outputs + (int64_t)i * out_p, j->bias, sizeof(float) * (size_t)out_p);
        }
        for (int32_t group = 0; group < j->n_groups; group++) {
            run_group(j, &w, n, group, &mine->sums);
        }
        store_outputs(j, n, w.outputs);
    }
}
