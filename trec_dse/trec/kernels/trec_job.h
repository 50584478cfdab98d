/* One TREC convolution over a batch, as the training kernels see it; native.py describes the structs to ctypes.
 *
 * An image gives n_vectors neuron vectors of `length` elements in each of n_groups groups. Vectors of one group and
 * one image are clustered together. Output i adds up, over groups and parts, the product of the centroid of vector
 * uses[part][i] with the kernel slice of that group and part. Slices that are clustered each for itself are groups of
 * one part; strips that all taps of a kernel share are vectors with many parts.
 *
 * Rows are padded to whole vectors of floats: _p stands for a length rounded up to LANES.
 */
#ifndef TREC_JOB_H
#define TREC_JOB_H

#include <stdint.h>

/* A batch of images whose pixels are equally far apart: contiguous, or channels last. Distances in floats. */
typedef struct {
    float *first;
    int64_t image, channel, pixel;
} images;

typedef struct {
    int32_t in_c, in_h, in_w, pad_h, pad_w;
    int32_t n_groups, n_parts, n_vectors, n_outputs;
    int32_t length, hash_bits, out_c;
    int32_t max_clusters;
    int32_t exact_c;          /* kernel reuse: the first exact_c = hash_bits outputs are the projections; else 0 */
    int32_t has_own_hash;     /* 1 where every group has its hash, 0 where one serves all */
    int32_t n_runs;
    int32_t uses_in_order;    /* 1 where there is one part and output i uses vector i */
    int32_t takes_neighbours; /* the form of the soft gradient: 1 for one-bit neighbours, 0 for all signatures */
    const int32_t *runs;      /* (n_groups, n_runs, 2): where a vector's elements lie from its base, and how many */
    const int32_t *bases;     /* (n_vectors): in the padded image (in_h + 2 pad_h, in_w + 2 pad_w, in_c) */
    const int32_t *uses;      /* (n_parts, n_outputs): a vector, or -1 for padding alone */
    const float *weights;     /* (n_groups, n_parts, length, out_c_p) */
    const float *weights_t;   /* (n_groups, n_parts, out_c, length_p) */
    const float *bias;        /* (out_c_p) */
    const float *hash;        /* (n_groups or 1, length, hash_bits_p) */
    const float *hash_t;      /* (n_groups or 1, hash_bits, length_p) */
    const float *thresholds;  /* (n_groups or 1, hash_bits_p) */
    const float *steepness;   /* (n_groups, hash_bits_p): slope over deviation; NULL without a soft gradient */
    uint16_t *clusters;       /* (images, n_groups, n_vectors): the cluster of every vector */
    uint16_t *codes;          /* (images, n_groups, max_clusters): the signature that opened it */
    int32_t *counts;          /* (images, n_groups): numbers of clusters */
    images x, y;              /* of in_c and out_c channels; in the backward pass y holds the gradient of the output */
    images x_gradient;
} job;

/* What a thread adds up over its images; the threads' sums are added by the caller. */
typedef struct {
    double *moments;   /* (n_groups, 2, hash_bits): sums of the projections and of their squares; or NULL */
    float *weights;    /* gradients, of the shapes above */
    float *hash_t;     /* (n_groups or 1, hash_bits, length_p) */
    float *thresholds; /* (n_groups or 1, hash_bits_p) */
} totals;

/* To a multiple of this many floats rows are padded. */
int32_t trec_lanes(void);

/* Floats of scratch that each thread needs. */
int64_t trec_forward_scratch(const job *j);
int64_t trec_backward_scratch(const job *j);

/* What one thread does: images first .. behind - 1. The forward pass gives output, clusters, codes, counts and moments;
 * the backward pass x_gradient, unless that is NULL, and the other gradients, added to sums. */
typedef struct {
    int32_t first, behind;
    float *scratch;
    totals sums;
} share;

void trec_forward(const job *j, const share *mine);
void trec_backward(const job *j, const share *mine);

/* 1 where `trec_run` works on its shares at the same time: compiled with OpenMP, and then in torch's own threads. */
int32_t trec_is_parallel(void);

void trec_run(const job *j, const share *shares, int32_t n_shares, int32_t is_backward);

#endif
