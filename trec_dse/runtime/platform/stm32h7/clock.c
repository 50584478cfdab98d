/* Clock tree of the STM32H743. Registers: RM0433, chapters RCC, PWR and FLASH. */
#include "trec_stm32.h"

#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLL1ON (1u << 24)
#define RCC_CR_PLL1RDY (1u << 25)
#define RCC_CFGR TREC_REGISTER(RCC + 0x10u)
#define RCC_CFGR_SW_PLL1 (3u << 0)
#define RCC_CFGR_SWS_MASK (7u << 3)
#define RCC_CFGR_SWS_PLL1 (3u << 3)
#define RCC_D1CFGR TREC_REGISTER(RCC + 0x18u)
#define RCC_D1CFGR_HALVES (8u << 0 | 4u << 4) /* HPRE, D1PPRE */
#define RCC_D2CFGR TREC_REGISTER(RCC + 0x1Cu)
#define RCC_D2CFGR_HALVES (4u << 4 | 4u << 8) /* D2PPRE1, D2PPRE2 */
#define RCC_D3CFGR TREC_REGISTER(RCC + 0x20u)
#define RCC_D3CFGR_HALVES (4u << 4) /* D3PPRE */
#define RCC_PLLCKSELR TREC_REGISTER(RCC + 0x28u)
#define RCC_PLLCKSELR_HSI 0u
#define RCC_PLLCKSELR_HSE 2u
#define RCC_PLLCFGR TREC_REGISTER(RCC + 0x2Cu)
#define RCC_PLLCFGR_FAST_INPUT (2u << 2) /* 4 to 8 MHz */
#define RCC_PLLCFGR_DIVP1EN (1u << 16)
#define RCC_PLL1DIVR TREC_REGISTER(RCC + 0x30u)

#define PWR_CSR1 TREC_REGISTER(0x58024804u)
#define PWR_CSR1_ACTVOSRDY (1u << 13)
#define PWR_CR3 TREC_REGISTER(0x5802480Cu)
#define PWR_CR3_BYPASS (1u << 0)
#define PWR_CR3_LDOEN (1u << 1)
#define PWR_CR3_SCUEN (1u << 2)
#define PWR_D3CR TREC_REGISTER(0x58024818u)
#define PWR_D3CR_VOSRDY (1u << 13)
#define PWR_D3CR_SCALE1 (3u << 14)

#define FLASH_ACR TREC_REGISTER(0x52002000u)
#define FLASH_ACR_WRHIGHFREQ (2u << 4) /* 185 to 210 MHz */

#define DBGMCU_IDCODE TREC_REGISTER(0x5C001000u)
#define FIRST_SOUND_REVISION 0x20000000u
#define AXI_TARG7_FN_MOD TREC_REGISTER(0x51008108u)
#define AXI_READ_ISSUE_ONE 1u

#define HSI_HZ 64000000u
#define PLL_INPUT_HZ 4000000u
#define PLL_P 2u
#define PLL_N (TREC_CLOCK_HZ / (PLL_INPUT_HZ / PLL_P))

_Static_assert(TREC_OSCILLATOR_HZ % PLL_INPUT_HZ == 0, "the PLL's input is no whole part of the oscillator");
_Static_assert(TREC_CLOCK_HZ <= 400000000u && PLL_N >= 48u, "TREC_CLOCK_HZ is out of reach of voltage scale 1");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ / 4u, "the USART's bus runs at a quarter of the core's clock");

/* Source and divider of the PLL: the board's clock, or the chip's own 64 MHz if the board is silent. */
static uint32_t start_oscillator(void)
{
    if (TREC_OSCILLATOR_IS_CLOCK) {
        RCC_CR |= RCC_CR_HSEBYP;
    }
    RCC_CR |= RCC_CR_HSEON;
    for (uint32_t i = 0; i < TREC_HSE_PATIENCE; i++) {
        if (RCC_CR & RCC_CR_HSERDY) {
            return RCC_PLLCKSELR_HSE | (TREC_OSCILLATOR_HZ / PLL_INPUT_HZ) << 4;
        }
    }
    RCC_CR &= ~RCC_CR_HSEON;
    return RCC_PLLCKSELR_HSI | (HSI_HZ / PLL_INPUT_HZ) << 4;
}

/* The supply must be confirmed once after power-on before the voltage can be raised. */
static void raise_voltage(void)
{
    PWR_CR3 = (PWR_CR3 & ~PWR_CR3_BYPASS) | PWR_CR3_LDOEN | PWR_CR3_SCUEN;
    while (!(PWR_CSR1 & PWR_CSR1_ACTVOSRDY)) {
    }
    PWR_D3CR |= PWR_D3CR_SCALE1;
    while (!(PWR_D3CR & PWR_D3CR_VOSRDY)) {
    }
}

void trec_stm32_start_clock(void)
{
    if ((DBGMCU_IDCODE & 0xFFFF0000u) < FIRST_SOUND_REVISION) {
        AXI_TARG7_FN_MOD = AXI_READ_ISSUE_ONE; /* ES0392: else reads of the AXI SRAM may return wrong data */
    }
    trec_core_enable_caches();
    raise_voltage();
    RCC_PLLCKSELR = start_oscillator();
    RCC_PLLCFGR = RCC_PLLCFGR_FAST_INPUT | RCC_PLLCFGR_DIVP1EN;
    RCC_PLL1DIVR = (PLL_N - 1u) | (PLL_P - 1u) << 9 | 1u << 16 | 1u << 24;
    RCC_CR |= RCC_CR_PLL1ON;
    FLASH_ACR = TREC_FLASH_WAIT_STATES | FLASH_ACR_WRHIGHFREQ;
    while ((FLASH_ACR & 15u) != TREC_FLASH_WAIT_STATES) {
    }
    RCC_D1CFGR |= RCC_D1CFGR_HALVES;
    RCC_D2CFGR |= RCC_D2CFGR_HALVES;
    RCC_D3CFGR |= RCC_D3CFGR_HALVES;
    while (!(RCC_CR & RCC_CR_PLL1RDY)) {
    }
    RCC_CFGR |= RCC_CFGR_SW_PLL1;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL1) {
    }
}
