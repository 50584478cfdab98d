/* Clock tree of the STM32G0, and a timer that counts its cycles. Registers: RM0444, chapters RCC, FLASH and TIM2. */
#include "trec_port.h"
#include "trec_stm32.h"

#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSION (1u << 8)
#define RCC_CR_HSIRDY (1u << 10)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_CFGR TREC_REGISTER(RCC + 0x08u)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS_MASK (7u << 3)
#define RCC_CFGR_SWS_PLL (2u << 3)
#define RCC_PLLCFGR TREC_REGISTER(RCC + 0x0Cu)
#define RCC_PLLCFGR_HSI (2u << 0)
#define RCC_PLLCFGR_REN (1u << 28)
#define RCC_APBENR1_TIM2EN (1u << 0)

#define FLASH_ACR TREC_REGISTER(0x40022000u)
#define FLASH_ACR_LATENCY 7u
#define FLASH_ACR_PRFTEN (1u << 8)
#define FLASH_ACR_ICEN (1u << 9)

#define TIM2_CR1 TREC_REGISTER(0x40000000u)
#define TIM2_CR1_CEN (1u << 0)
#define TIM2_CNT TREC_REGISTER(0x40000024u)

#define PLL_R 2u
#define PLL_N (TREC_CLOCK_HZ * PLL_R / TREC_OSCILLATOR_HZ)

_Static_assert(TREC_OSCILLATOR_IS_INTERNAL && TREC_OSCILLATOR_HZ == 16000000u, "this start-up code knows HSI16 only");
_Static_assert(PLL_N >= 8u && PLL_N <= 21u, "TREC_CLOCK_HZ is out of the PLL's reach"); /* 344 MHz at most */
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ, "the USART's bus runs at the core's clock");

void trec_stm32_start_clock(void)
{
    FLASH_ACR = (FLASH_ACR & ~FLASH_ACR_LATENCY) | TREC_FLASH_WAIT_STATES | FLASH_ACR_PRFTEN | FLASH_ACR_ICEN;
    while ((FLASH_ACR & FLASH_ACR_LATENCY) != TREC_FLASH_WAIT_STATES) {
    }
    RCC_CR |= RCC_CR_HSION;
    while (!(RCC_CR & RCC_CR_HSIRDY)) {
    }
    RCC_PLLCFGR = RCC_PLLCFGR_HSI | PLL_N << 8 | RCC_PLLCFGR_REN | (PLL_R - 1u) << 29;
    RCC_CR |= RCC_CR_PLLON;
    while (!(RCC_CR & RCC_CR_PLLRDY)) {
    }
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL) {
    }
}

/* A Cortex-M0+ has no cycle counter; TIM2 has 32 bits and, undivided, the core's clock. */
void trec_core_start_cycle_counter(void)
{
    RCC_APBENR1 |= RCC_APBENR1_TIM2EN;
    (void)RCC_APBENR1;
    TIM2_CR1 = TIM2_CR1_CEN;
}

uint32_t trec_port_cycles(void)
{
    return TIM2_CNT;
}
