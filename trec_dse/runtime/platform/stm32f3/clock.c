/* Clock tree of the STM32F3. Registers: RM0316, chapters RCC and FLASH. */
#include "trec_stm32.h"

#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CFGR TREC_REGISTER(RCC + 0x04u)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS_MASK (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_CFGR_PPRE1_DIV2 (4u << 8)
#define RCC_CFGR_PLLSRC_HSI (1u << 15)
#define RCC_CFGR_PLLSRC_HSE (2u << 15)
#define RCC_CFGR_PLLMUL ((TREC_CLOCK_HZ / TREC_OSCILLATOR_HZ - 2u) << 18)

#define FLASH_ACR TREC_REGISTER(0x40022000u)
#define FLASH_ACR_PRFTBE (1u << 4)

/* The chip's own oscillator has the same 8 MHz, so that one multiplier serves both. */
_Static_assert(TREC_OSCILLATOR_HZ == 8000000u, "the PLL of this start-up code expects 8 MHz");
_Static_assert(TREC_CLOCK_HZ % TREC_OSCILLATOR_HZ == 0 && TREC_CLOCK_HZ <= 72000000u, "out of the PLL's reach");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ / 2u, "the USART's bus runs at another clock");

static uint32_t start_oscillator(void)
{
    if (TREC_OSCILLATOR_IS_CLOCK) {
        RCC_CR |= RCC_CR_HSEBYP;
    }
    RCC_CR |= RCC_CR_HSEON;
    for (uint32_t i = 0; i < TREC_HSE_PATIENCE; i++) {
        if (RCC_CR & RCC_CR_HSERDY) {
            return RCC_CFGR_PLLSRC_HSE;
        }
    }
    RCC_CR &= ~RCC_CR_HSEON;
    return RCC_CFGR_PLLSRC_HSI;
}

void trec_stm32_start_clock(void)
{
    FLASH_ACR = TREC_FLASH_WAIT_STATES | FLASH_ACR_PRFTBE;
    while ((FLASH_ACR & 7u) != TREC_FLASH_WAIT_STATES) {
    }
    RCC_CFGR |= start_oscillator() | RCC_CFGR_PLLMUL | RCC_CFGR_PPRE1_DIV2;
    RCC_CR |= RCC_CR_PLLON;
    while (!(RCC_CR & RCC_CR_PLLRDY)) {
    }
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL) {
    }
}
