/* The only file that asks which core this is: it picks the headers that define the primitives. */
#ifndef TREC_ARCH_H
#define TREC_ARCH_H

#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)
#include "armv7em_dsp.h"
#else
#if defined(__ARM_ARCH_6M__) && !defined(TREC_PORTABLE)
#include "armv6m.h"
#endif
#if (defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_7M__)) && !defined(TREC_PORTABLE)
#include "scalar.h"
#endif
#include "portable.h"
#endif

#endif
