/* Shares of a batch, at the same time where the compiler knows how. */
#include "trec_job.h"

int32_t trec_is_parallel(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

void trec_run(const job *j, const share *shares, int32_t n_shares, int32_t is_backward)
{
#ifdef _OPENMP
#pragma omp parallel for num_threads(n_shares) schedule(static, 1)
#endif
    for (int32_t i = 0; i < n_shares; i++) {
        if (is_backward) {
            trec_backward(j, shares + i);
        } else {
            trec_forward(j, shares + i);
        }
    }
}
