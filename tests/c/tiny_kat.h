/* Known answers of the tiny network. */
#ifndef TREC_KAT_H
#define TREC_KAT_H

#include "trec_network.h"

#define TREC_KAT_IMAGES 8

extern const int8_t trec_kat_input[TREC_KAT_IMAGES][TREC_INPUT_BYTES];
extern const int8_t trec_kat_output[TREC_KAT_IMAGES][TREC_OUTPUT_BYTES];

#endif
