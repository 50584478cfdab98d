/* The recurrence of a simple recurrent unit. A blend of two values by a gate fits 32 bits, for it lies between them. */
#include "trec_sru_s8.h"

#include "trec_gates.h" /* defines: trec_interpolate */

int32_t trec_sru_scratch_bytes(const trec_sru *p)
{
    return 2 * p->sequences * p->units;
}

/* One step of one sequence without the outputs. products: (parts, units), states: (units) */
static void sru_step(const trec_sru *p, const int8_t *products, int16_t *states)
{
    const int8_t *forgets = products + p->units;
    for (int32_t i = 0; i < p->units; i++) {
        const int32_t fresh = (products[i] - p->zero) * 128;
        const int32_t forget = p->sigmoids[forgets[i] + 128];
        states[i] = (int16_t)(fresh + ((forget * (states[i] - fresh) + (1 << 14)) >> 15));
    }
}

/* The outputs of that step. products: (parts, units), highway, output: (units) */
static void sru_write(const trec_sru *p, const int8_t *products, const int8_t *highway, const int16_t *states,
                      int8_t *output)
{
    const int8_t *resets = products + 2 * p->units;
    const int32_t first = (128 + p->zero) * 128;
    const int32_t one = (int32_t)1 << p->highway_shift;
    for (int32_t i = 0; i < p->units; i++) {
        const int32_t cell = trec_interpolate(p->tanhs, states[i] + first);
        const int32_t x = (highway[i] - p->highway_zero) * one;
        const int32_t reset = p->sigmoids[resets[i] + 128];
        const int32_t h = x * 32768 + reset * (cell - x);
        output[i] = (int8_t)trec_clamp(trec_scale_any(h, p->multiplier, p->shift) + p->out_zero, -128, 127);
    }
}

void trec_sru_s8(const trec_sru *p, const int8_t *products, const int8_t *highway, void *scratch, int8_t *output)
{
    const int32_t width = p->sequences * p->units;
    int16_t *states = scratch;
    for (int32_t i = 0; i < width; i++) {
        states[i] = 0;
    }
    for (int32_t t = 0; t < p->steps; t++) {
        const int32_t is_written = !p->last || t == p->steps - 1;
        for (int32_t s = 0; s < width; s += p->units) {
            sru_step(p, products, states + s);
            if (is_written) {
                sru_write(p, products, p->parts == 4 ? products + 3 * p->units : highway, states + s, output);
                output += p->units;
            }
            products += p->parts * p->units;
            highway += p->units;
        }
    }
}
