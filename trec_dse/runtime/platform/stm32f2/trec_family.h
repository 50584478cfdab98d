/* STM32F2 (RM0033): accelerated Flash; one core voltage; a PLL whose multiplier starts at 192. */
#ifndef TREC_FAMILY_H
#define TREC_FAMILY_H

#include "trec_buses.h"

#define FLASH_ACR_OPTIONS (7u << 8) /* prefetch, instruction and data cache */
#define PWR_CR_FULL_SPEED 0u
#define OVER_DRIVE_ABOVE_HZ 120000000u /* there is none, and no need of it */
#define PLL_INPUT_HZ 1000000u
#define PLL_N_LEAST 192u

#endif
