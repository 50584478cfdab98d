/* STM32F4 (RM0386 for the F469, RM0390 for the F446): accelerated Flash; over-drive above 168 MHz. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "trec_buses.h"

#define FLASH_ACR_OPTIONS (7u << 8) /* prefetch, instruction and data cache */
#define PWR_CR_FULL_SPEED (3u << 14) /* voltage scale 1 */
#define OVER_DRIVE_ABOVE_HZ 168000000u
#define PLL_INPUT_HZ (TREC_OSCILLATOR_HZ % 2000000u ? 1000000u : 2000000u) /* 2 MHz is the advice against jitter */
#define PLL_N_LEAST 50u

#endif
