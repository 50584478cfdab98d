/* Known-answer test: does this network give the recorded outputs on this machine? */
#include <stdio.h>
#include <string.h>

#include "trec_kat.h"
#include "trec_network.h"

int main(void)
{
    int n_wrong = 0;
    for (int i = 0; i < TREC_KAT_IMAGES; i++) {
        memcpy(trec_arena + TREC_INPUT_OFFSET, trec_kat_input[i], TREC_INPUT_BYTES);
        trec_net_run();
        if (memcmp(trec_arena + TREC_OUTPUT_OFFSET, trec_kat_output[i], TREC_OUTPUT_BYTES) != 0) {
            printf("image %d: the output differs from the recorded one\n", i);
            n_wrong++;
        }
    }
    printf("%s: %d of %d known answers are right\n", TREC_BUILD_ID, TREC_KAT_IMAGES - n_wrong, TREC_KAT_IMAGES);
    return n_wrong != 0;
}
