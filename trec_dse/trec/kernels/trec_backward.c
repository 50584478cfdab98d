/* The backward pass: exact for the clusters as they are, and soft memberships where the hash learns. */
#include "trec_neighbours.h"
#include "trec_soft.h"

typedef struct {
    float *padded, *padded_gradient; /* (in_h + 2 pad_h, in_w + 2 pad_w, in_c) */
    float *outputs;                  /* (n_outputs, out_c_p): the gradient of the output */
    float *rows, *rows_gradient;     /* (n_vectors, length_p) */
    float *projections;              /* (n_vectors, hash_bits_p): and then their gradient */
    float *means;                    /* (slots, length_p) */
    float *per_member;               /* (max_clusters, length_p): gradient of a mean over the size of its cluster */
    float *shares;                   /* (slots): 1 / size */
    float *cluster_outputs;          /* (max_clusters, out_c_p): outputs summed over the users of a cluster */
    soft_space soft;
    neighbour_space neighbours;
} workspace;

static int is_soft(const job *j)
{
    return j->steepness != NULL;
}

static int takes_all(const job *j)
{
    return is_soft(j) && !j->takes_neighbours;
}

static workspace cut(const job *j, scratch_space *scratch)
{
    const int64_t length_p = round_up(j->length);
    const int64_t out_p = round_up(j->out_c);
    const int64_t slots = takes_all(j) ? soft_slots(j) : j->max_clusters;
    workspace w = {0};
    w.padded = take(scratch, padded_floats(j));
    w.padded_gradient = take(scratch, padded_floats(j));
    w.outputs = take(scratch, j->n_outputs * out_p);
    w.rows = take(scratch, j->n_vectors * length_p + LANES);
    w.projections = take(scratch, (int64_t)j->n_vectors * round_up(j->hash_bits));
    w.means = take(scratch, slots * length_p);
    w.per_member = take(scratch, j->max_clusters * length_p);
    w.shares = take(scratch, slots);
    w.cluster_outputs = take(scratch, j->max_clusters * out_p);
    if (takes_all(j)) {
        w.soft = cut_soft(j, scratch);
    } else if (is_soft(j)) {
        w.neighbours = cut_neighbours(j, scratch);
    }
    if (is_soft(j) || j->exact_c > 0) {
        w.rows_gradient = take(scratch, j->n_vectors * length_p);
    }
    return w;
}

int64_t trec_backward_scratch(const job *j)
{
    scratch_space scratch = {NULL, 0};
    cut(j, &scratch);
    return scratch.used;
}

static void load_outputs(const job *j, int32_t n, float *outputs)
{
    const float *from = j->y.first + n * j->y.image;
    const int32_t out_p = round_up(j->out_c);
    if (j->y.channel != 1) {
        flip(j->out_c, j->n_outputs, from, j->y.channel, outputs, out_p);
        return;
    }
    for (int32_t i = 0; i < j->n_outputs; i++) {
        __builtin_memcpy(outputs + (int64_t)i * out_p, from + i * j->y.pixel, sizeof(float) * (size_t)j->out_c);
    }
}

static void store_image_gradient(const job *j, int32_t n, float *padded)
{
    const images *to = &j->x_gradient;
    for (int32_t y = 0; y < j->in_h; y++) {
        float *line = to->first + n * to->image + (int64_t)y * j->in_w * to->pixel;
        const float *from = padded_row(j, padded, y);
        if (to->channel == 1) {
            __builtin_memcpy(line, from, sizeof(float) * (size_t)(j->in_w * j->in_c));
        } else {
            flip(j->in_w, j->in_c, from, j->in_c, line, to->channel);
        }
    }
}

/* Gradients of weights and means, part by part; the soft part needs the products of every slot, too. */
static void run_parts(const job *j, const workspace *w, int32_t group, const uint16_t *clusters, int32_t n_clusters,
                      const totals *sums)
{
    const int32_t length_p = round_up(j->length);
    const int32_t out_p = round_up(j->out_c);
    clear(w->per_member, (int64_t)n_clusters * length_p);
    for (int32_t part = 0; part < j->n_parts; part++) {
        const int32_t *uses = j->uses + (int64_t)part * j->n_outputs;
        const int64_t slice = (int64_t)group * j->n_parts + part;
        clear(w->cluster_outputs, (int64_t)n_clusters * out_p);
        for (int32_t i = 0; i < j->n_outputs; i++) {
            if (uses[i] >= 0) {
                float *into = w->cluster_outputs + (int64_t)clusters[uses[i]] * out_p;
                add_row(into, w->outputs + (int64_t)i * out_p, out_p);
            }
        }
        multiply(j->length, out_p, n_clusters, by_columns(w->means, length_p), w->cluster_outputs, out_p,
                 sums->weights + slice * j->length * out_p, out_p, 1);
        const float *weights_t = j->weights_t + slice * j->out_c * length_p;
        multiply(n_clusters, length_p, j->out_c, by_rows(w->cluster_outputs, out_p), weights_t, length_p, w->per_member,
                 length_p, 1);
        const float *weights = j->weights + slice * j->length * out_p;
        if (takes_all(j)) {
            add_part(j, &w->soft, weights, weights_t, uses, w->outputs);
        } else if (is_soft(j)) {
            add_neighbour_part(j, &w->neighbours, w->means, n_clusters, weights, uses, w->outputs);
        }
    }
    for (int32_t c = 0; c < n_clusters; c++) {
        for (int32_t i = 0; i < length_p; i++) {
            w->per_member[(int64_t)c * length_p + i] *= w->shares[c];
        }
    }
}

/* projections = steepness times distance from the threshold */
static void find_distances(const job *j, const workspace *w, int32_t group)
{
    const int32_t bits_p = round_up(j->hash_bits);
    const int64_t own = group * j->has_own_hash;
    const float *thresholds = j->thresholds + own * bits_p;
    const float *steepness = j->steepness + (int64_t)group * bits_p;
    multiply(j->n_vectors, bits_p, j->length, by_rows(w->rows, round_up(j->length)), j->hash + own * j->length * bits_p,
             bits_p, w->projections, bits_p, 0);
    for (int32_t t = 0; t < j->n_vectors; t++) {
        float *row = w->projections + (int64_t)t * bits_p;
        for (int32_t h = 0; h < bits_p; h += LANES) {
            store(row + h, (load(row + h) - load(thresholds + h)) * load(steepness + h));
        }
    }
}

static void prepare_soft(const job *j, workspace *w, int32_t group, const uint16_t *clusters, const uint16_t *codes,
                         int32_t n_clusters)
{
    find_distances(j, w, group);
    if (!takes_all(j)) {
        find_neighbours(j, &w->neighbours, w->rows, clusters, codes, n_clusters, w->shares);
        return;
    }
    const float *steepness = j->steepness + (int64_t)group * round_up(j->hash_bits);
    lay_out_slots(j, &w->soft, codes, n_clusters, steepness, w->soft.gradient);
    find_memberships(j, &w->soft, w->projections);
    average_ghosts(j, &w->soft, w->rows, n_clusters, w->means);
    transpose(j, w->means, soft_slots(j), j->length, round_up(j->length), w->soft.means_t);
    clear_gradient(j, &w->soft);
}

/* The gradient of the projections: soft bits, and the outputs that kernel reuse takes from them. */
static void find_projection_gradient(const job *j, const workspace *w, int32_t group, int32_t n_clusters,
                                     const totals *sums)
{
    const int32_t bits_p = round_up(j->hash_bits);
    float *thresholds = sums->thresholds + (int64_t)group * j->has_own_hash * bits_p;
    if (is_soft(j)) {
        if (takes_all(j)) {
            finish_soft(j, &w->soft, w->rows, w->means, w->per_member, n_clusters, w->projections);
        } else {
            finish_neighbours(j, &w->neighbours, w->rows, w->means, w->per_member, n_clusters,
                              j->steepness + (int64_t)group * bits_p, w->projections);
        }
        for (int32_t h = 0; h < bits_p; h += LANES) {
            lanes sum = {0};
            for (int32_t t = 0; t < j->n_vectors; t++) {
                sum += load(w->projections + (int64_t)t * bits_p + h);
            }
            store(thresholds + h, load(thresholds + h) - sum);
        }
    } else {
        clear(w->projections, (int64_t)j->n_vectors * bits_p);
    }
    for (int32_t i = 0; i < j->n_outputs; i++) {
        for (int32_t h = 0; h < j->exact_c; h++) {
            w->projections[(int64_t)i * bits_p + h] += w->outputs[(int64_t)i * round_up(j->out_c) + h];
        }
    }
}

/* rows_gradient = what every member of a cluster gets, plus what comes through its projections. */
static void find_rows_gradient(const job *j, const workspace *w, int32_t group, const uint16_t *clusters,
                               const totals *sums)
{
    const int32_t bits_p = round_up(j->hash_bits);
    const int32_t length_p = round_up(j->length);
    const int64_t hash = (int64_t)group * j->has_own_hash * j->hash_bits * length_p;
    for (int32_t t = 0; t < j->n_vectors; t++) {
        __builtin_memcpy(w->rows_gradient + (int64_t)t * length_p, w->per_member + (int64_t)clusters[t] * length_p,
                         sizeof(float) * (size_t)length_p);
    }
    multiply(j->n_vectors, length_p, j->hash_bits, by_rows(w->projections, bits_p), j->hash_t + hash, length_p,
             w->rows_gradient, length_p, 1);
    multiply(j->hash_bits, length_p, j->n_vectors, by_columns(w->projections, bits_p), w->rows, length_p,
             sums->hash_t + hash, length_p, 1);
}

static void scatter(const job *j, const workspace *w, int32_t group, const uint16_t *clusters)
{
    const int32_t length_p = round_up(j->length);
    const int32_t *runs = j->runs + 2 * group * j->n_runs;
    for (int32_t t = 0; t < j->n_vectors; t++) {
        const float *row = w->rows_gradient != NULL ? w->rows_gradient + (int64_t)t * length_p
                                                    : w->per_member + (int64_t)clusters[t] * length_p;
        for (int32_t r = 0; r < j->n_runs; r++) {
            float *to = w->padded_gradient + j->bases[t] + runs[2 * r];
            const int32_t n = runs[2 * r + 1];
            if (j->n_runs == 1) {
                add_row(to, row, length_p); /* a row is padded by zeros */
                continue;
            }
            for (int32_t i = 0; i < n; i++) {
                to[i] += row[i];
            }
            row += n;
        }
    }
}

static void run_group(const job *j, workspace *w, int32_t n, int32_t group, const totals *sums)
{
    const int64_t place = (int64_t)n * j->n_groups + group;
    const uint16_t *clusters = j->clusters + place * j->n_vectors;
    const int32_t n_clusters = j->counts[place];
    gather(j, w->padded, group, w->rows);
    average(j, w->rows, clusters, n_clusters, w->means, w->shares);
    if (is_soft(j)) {
        prepare_soft(j, w, group, clusters, j->codes + place * j->max_clusters, n_clusters);
    }
    run_parts(j, w, group, clusters, n_clusters, sums);
    if (is_soft(j) || j->exact_c > 0) {
        find_projection_gradient(j, w, group, n_clusters, sums);
        find_rows_gradient(j, w, group, clusters, sums);
    }
    if (j->x_gradient.first != NULL) {
        scatter(j, w, group, clusters);
    }
}

void trec_backward(const job *j, const share *mine)
{
    scratch_space space = {mine->scratch, 0};
    workspace w = cut(j, &space);
    clear(w.padded, padded_floats(j));
    clear(w.rows, j->n_vectors * (int64_t)round_up(j->length)); /* what pads a row is multiplied by zeros later */
    clear(w.outputs, (int64_t)j->n_outputs * round_up(j->out_c));
    for (int32_t n = mine->first; n < mine->behind; n++) {
        load_image(j, n, w.padded);
        load_outputs(j, n, w.outputs);
        clear(w.padded_gradient, padded_floats(j));
        for (int32_t group = 0; group < j->n_groups; group++) {
            run_group(j, &w, n, group, &mine->sums);
        }
        if (j->x_gradient.first != NULL) {
            store_image_gradient(j, n, w.padded_gradient);
        }
    }
}
