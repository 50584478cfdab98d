/* Clock tree of the STM32L4+. Registers: RM0432, chapters RCC, PWR and FLASH. */
#include "trec_stm32.h"

#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSION (1u << 8)
#define RCC_CR_HSIRDY (1u << 10)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CFGR TREC_REGISTER(RCC + 0x08u)
#define RCC_CFGR_SW_PLL (3u << 0)
#define RCC_CFGR_SWS_MASK (3u << 2)
#define RCC_CFGR_SWS_PLL (3u << 2)
#define RCC_CFGR_HPRE_DIV2 (8u << 4)
#define RCC_PLLCFGR TREC_REGISTER(RCC + 0x0Cu)
#define RCC_PLLCFGR_HSI (2u << 0)
#define RCC_PLLCFGR_REN (1u << 24)
#define RCC_APB1ENR1_PWREN (1u << 28)

#define PWR_CR2 TREC_REGISTER(0x40007004u)
#define PWR_CR2_IOSV (1u << 9)
#define PWR_SR2 TREC_REGISTER(0x40007014u)
#define PWR_SR2_VOSF (1u << 10)
#define PWR_CR5 TREC_REGISTER(0x40007080u)
#define PWR_CR5_R1MODE (1u << 8)

#define FLASH_ACR TREC_REGISTER(0x40022000u)
#define FLASH_ACR_OPTIONS (7u << 8) /* prefetch, instruction and data cache */

#define PLL_INPUT_HZ 4000000u
#define PLL_N (TREC_CLOCK_HZ / (PLL_INPUT_HZ / 2u)) /* the PLL's output is halved */
#define SETTLING_LOOPS 60u                          /* at least 1 us at half the clock */

_Static_assert(TREC_OSCILLATOR_IS_INTERNAL && TREC_OSCILLATOR_HZ == 16000000u, "this start-up code knows HSI16 only");
_Static_assert(PLL_N >= 16u && PLL_N <= 86u && TREC_CLOCK_HZ <= 120000000u, "out of the PLL's reach");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ, "the USART's bus runs at the core's clock");

static void start_pll(void)
{
    RCC_CR |= RCC_CR_HSION;
    while (!(RCC_CR & RCC_CR_HSIRDY)) {
    }
    RCC_PLLCFGR = RCC_PLLCFGR_HSI | (TREC_OSCILLATOR_HZ / PLL_INPUT_HZ - 1u) << 4 | PLL_N << 8 | RCC_PLLCFGR_REN;
    RCC_CR |= RCC_CR_PLLON;
    while (!(RCC_CR & RCC_CR_PLLRDY)) {
    }
}

/* Above 80 MHz the manual wants boost mode, and a stop at half the clock on the way up. */
void trec_stm32_start_clock(void)
{
    RCC_APB1ENR1 |= RCC_APB1ENR1_PWREN;
    (void)RCC_APB1ENR1;
    PWR_CR2 |= PWR_CR2_IOSV; /* PG2 to PG15 are dead until VDDIO2 is declared valid */
    PWR_CR5 &= ~PWR_CR5_R1MODE;
    while (PWR_SR2 & PWR_SR2_VOSF) {
    }
    FLASH_ACR = TREC_FLASH_WAIT_STATES | FLASH_ACR_OPTIONS;
    while ((FLASH_ACR & 15u) != TREC_FLASH_WAIT_STATES) {
    }
    start_pll();
    RCC_CFGR |= RCC_CFGR_HPRE_DIV2;
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL) {
    }
    for (uint32_t i = 0; i < SETTLING_LOOPS; i++) {
        __asm__ volatile("nop");
    }
    RCC_CFGR &= ~RCC_CFGR_HPRE_DIV2;
}
