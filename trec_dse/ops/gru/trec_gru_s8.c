/* The recurrence of a gated recurrent unit. States are int16; their int8 roundings are what the hidden kernels see. */
#include "trec_gru_s8.h"

#include "trec_arch.h"  /* defines: trec_dot_1x4, trec_dot_s8 */
#include "trec_gates.h" /* defines: trec_interpolate */

#define GATES 3
#define AT_ONCE 4
#define MOST_INNER 65535

int32_t trec_gru_scratch_bytes(const trec_gru *p)
{
    return 3 * p->sequences * p->units;
}

/* The products of n units from i on, n at most 4, with the states. seen: (units), sums: (3 gates, 4 units) */
static void hidden_sums(const trec_gru *p, const int8_t *seen, int32_t i, int32_t n, int32_t sums[GATES][AT_ONCE])
{
    const int32_t d = p->units;
    for (int32_t g = 0; g < GATES; g++) {
        const int8_t *kernels = p->hidden + (g * d + i) * d;
        const int32_t *bias = p->bias + g * d + i;
        for (int32_t j = 0; j < n; j++) {
            sums[g][j] = bias[j];
        }
        if (n == AT_ONCE) {
            trec_dot_1x4(seen, kernels, d, d, sums[g]);
        } else {
            for (int32_t j = 0; j < n; j++) {
                sums[g][j] += trec_dot_s8(seen, kernels + j * d, d);
            }
        }
    }
}

/* A hidden product in 1 / 2^11. c: gate * units + unit */
static int32_t gate_units(const trec_gru *p, int32_t sum, int32_t c)
{
    return trec_scale_any(sum, p->multipliers[c], p->shifts[c]);
}

/* The logistic function of x in 1 / 2^11 */
static int32_t gate_open(const trec_gru *p, int32_t x)
{
    return trec_interpolate(p->sigmoids, trec_clamp(x + (1 << 14), 0, (1 << 15) - 1));
}

/* The next state of unit i. products: (3, units); sums: of reset, update and candidate */
static int16_t next_state(const trec_gru *p, const int8_t *products, int32_t i, const int32_t sums[GATES],
                          int32_t state)
{
    const int32_t d = p->units;
    const int32_t reset = gate_open(p, p->levels[products[i] + 128] + gate_units(p, sums[0], i));
    const int32_t update = gate_open(p, p->levels[products[d + i] + 128] + gate_units(p, sums[1], d + i));
    const int32_t inner = trec_clamp(gate_units(p, sums[2], 2 * d + i), -MOST_INNER, MOST_INNER);
    const int32_t x = p->levels[products[2 * d + i] + 128] + ((reset * inner + (1 << 14)) >> 15);
    const int32_t candidate = 2 * gate_open(p, 2 * x) - (1 << 15); /* tanh(x) = 2 s(2 x) - 1 */
    return (int16_t)(candidate + ((update * (state - candidate) + (1 << 14)) >> 15));
}

/* One step of one sequence. products: (3, units), states, seen: (units) */
static void gru_step(const trec_gru *p, const int8_t *products, int16_t *states, int8_t *seen)
{
    int32_t sums[GATES][AT_ONCE];
    for (int32_t i = 0; i < p->units; i += AT_ONCE) {
        const int32_t left = p->units - i;
        const int32_t n = left < AT_ONCE ? left : AT_ONCE;
        hidden_sums(p, seen, i, n, sums);
        for (int32_t j = 0; j < n; j++) {
            const int32_t of_unit[GATES] = {sums[0][j], sums[1][j], sums[2][j]};
            states[i + j] = next_state(p, products, i + j, of_unit, states[i + j]);
        }
    }
    for (int32_t i = 0; i < p->units; i++) {
        seen[i] = (int8_t)trec_clamp((states[i] + 128) >> 8, -128, 127);
    }
}

void trec_gru_s8(const trec_gru *p, const int8_t *products, void *scratch, int8_t *output)
{
    const int32_t width = p->sequences * p->units;
    int16_t *states = scratch;
    int8_t *seen = (int8_t *)(states + width);
    for (int32_t i = 0; i < width; i++) {
        states[i] = 0;
        seen[i] = 0;
    }
    for (int32_t t = 0; t < p->steps; t++) {
        for (int32_t s = 0; s < width; s += p->units) {
            gru_step(p, products, states + s, seen + s);
            products += GATES * p->units;
        }
        if (!p->last || t == p->steps - 1) {
            for (int32_t i = 0; i < width; i++) {
                const int32_t h = trec_scale_any(states[i], p->multiplier, p->shift);
                *output++ = (int8_t)trec_clamp(h + p->out_zero, -128, 127);
            }
        }
    }
}
