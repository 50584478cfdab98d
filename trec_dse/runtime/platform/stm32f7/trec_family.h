/* STM32F7 (RM0385): caches in the core instead of a Flash accelerator; over-drive above 180 MHz. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "trec_buses.h"

#define TREC_HAS_CORE_CACHES
#define FLASH_ACR_OPTIONS (1u << 8) /* prefetch, for what comes through ITCM */
#define PWR_CR_FULL_SPEED (3u << 14) /* voltage scale 1 */
#define OVER_DRIVE_ABOVE_HZ 180000000u
#define PLL_INPUT_HZ (TREC_OSCILLATOR_HZ % 2000000u ? 1000000u : 2000000u) /* 2 MHz is the advice against jitter */
#define PLL_N_LEAST 50u

#endif
