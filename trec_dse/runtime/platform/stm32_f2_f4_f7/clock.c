/* Clock tree. Registers: RM0033 (F2), RM0386 (F4) and RM0385 (F7), chapters RCC, PWR and FLASH, each "registers". */
#include "trec_stm32.h"

#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR TREC_REGISTER(RCC + 0x04u)
#define RCC_PLLCFGR_RESERVED (2u << 28) /* PLLR of the F4, reset value of the others */
#define RCC_PLLCFGR_HSE (1u << 22)
#define RCC_CFGR TREC_REGISTER(RCC + 0x08u)
#define RCC_CFGR_PPRE1_DIV4 (5u << 10)
#define RCC_CFGR_PPRE2_DIV2 (4u << 13)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS_MASK (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_APB1ENR_PWREN (1u << 28)

#define PWR_CR TREC_REGISTER(0x40007000u)
#define PWR_CR_ODEN (1u << 16)
#define PWR_CR_ODSWEN (1u << 17)
#define PWR_CSR TREC_REGISTER(0x40007004u)
#define PWR_CSR_ODRDY (1u << 16)
#define PWR_CSR_ODSWRDY (1u << 17)

#define FLASH_ACR TREC_REGISTER(0x40023C00u)

#define HSI_HZ 16000000u
#define PLL_P 2u
#define PLL_Q 9u /* for USB, which is not used, but must not be overclocked */
#define PLL_N (TREC_CLOCK_HZ / (PLL_INPUT_HZ / PLL_P))

_Static_assert(TREC_OSCILLATOR_HZ % PLL_INPUT_HZ == 0, "the PLL's input is no whole part of the oscillator");
_Static_assert(PLL_N >= PLL_N_LEAST && PLL_N <= 432u, "TREC_CLOCK_HZ is out of the PLL's reach");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ / TREC_USART_SLOWER, "the USART's bus runs at another clock");

/* Source and divider of the PLL: the board's clock, or the chip's own 16 MHz (1 % off) if the board is silent. */
static uint32_t start_oscillator(void)
{
    if (TREC_OSCILLATOR_IS_CLOCK) {
        RCC_CR |= RCC_CR_HSEBYP;
    }
    RCC_CR |= RCC_CR_HSEON;
    for (uint32_t i = 0; i < TREC_HSE_PATIENCE; i++) {
        if (RCC_CR & RCC_CR_HSERDY) {
            return TREC_OSCILLATOR_HZ / PLL_INPUT_HZ | RCC_PLLCFGR_HSE;
        }
    }
    RCC_CR &= ~RCC_CR_HSEON;
    return HSI_HZ / PLL_INPUT_HZ;
}

static void start_over_drive(void)
{
#if TREC_CLOCK_HZ > OVER_DRIVE_ABOVE_HZ
    PWR_CR |= PWR_CR_ODEN;
    while (!(PWR_CSR & PWR_CSR_ODRDY)) {
    }
    PWR_CR |= PWR_CR_ODSWEN;
    while (!(PWR_CSR & PWR_CSR_ODSWRDY)) {
    }
#endif
}

/* The order is the manuals': "Entering Over-drive mode", in the chapter PWR. */
void trec_stm32_start_clock(void)
{
#if defined(TREC_HAS_CORE_CACHES)
    trec_core_enable_caches();
#endif
    RCC_APB1ENR |= RCC_APB1ENR_PWREN;
    (void)RCC_APB1ENR; /* a peripheral answers two cycles after its clock is enabled */
    PWR_CR |= PWR_CR_FULL_SPEED;
    RCC_PLLCFGR = start_oscillator() | PLL_N << 6 | (PLL_P / 2u - 1u) << 16 | PLL_Q << 24 | RCC_PLLCFGR_RESERVED;
    RCC_CR |= RCC_CR_PLLON;
    start_over_drive();
    FLASH_ACR = TREC_FLASH_WAIT_STATES | FLASH_ACR_OPTIONS;
    while ((FLASH_ACR & 15u) != TREC_FLASH_WAIT_STATES) {
    }
    RCC_CFGR |= RCC_CFGR_PPRE1_DIV4 | RCC_CFGR_PPRE2_DIV2;
    while (!(RCC_CR & RCC_CR_PLLRDY)) {
    }
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL) {
    }
}
