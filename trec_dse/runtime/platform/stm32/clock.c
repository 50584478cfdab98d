/* Clock tree and pins. Registers: RM0386 (F4) and RM0385 (F7), chapters RCC, PWR, FLASH and GPIO, each "registers". */
#include "trec_stm32.h"

#define RCC 0x40023800u
#define RCC_CR TREC_REGISTER(RCC + 0x00u)
#define RCC_CR_HSEON (1u << 16)
#define RCC_CR_HSERDY (1u << 17)
#define RCC_CR_HSEBYP (1u << 18)
#define RCC_CR_PLLON (1u << 24)
#define RCC_CR_PLLRDY (1u << 25)
#define RCC_PLLCFGR TREC_REGISTER(RCC + 0x04u)
#define RCC_PLLCFGR_RESERVED (2u << 28) /* PLLR of the F4, reset value of the F7 */
#define RCC_PLLCFGR_HSE (1u << 22)
#define RCC_CFGR TREC_REGISTER(RCC + 0x08u)
#define RCC_CFGR_PPRE1_DIV4 (5u << 10)
#define RCC_CFGR_PPRE2_DIV2 (4u << 13)
#define RCC_CFGR_SW_PLL (2u << 0)
#define RCC_CFGR_SWS_MASK (3u << 2)
#define RCC_CFGR_SWS_PLL (2u << 2)
#define RCC_AHB1ENR TREC_REGISTER(RCC + 0x30u)
#define RCC_APB1ENR TREC_REGISTER(RCC + 0x40u)
#define RCC_APB1ENR_PWREN (1u << 28)

#define PWR_CR TREC_REGISTER(0x40007000u)
#define PWR_CR_VOS_SCALE1 (3u << 14)
#define PWR_CR_ODEN (1u << 16)
#define PWR_CR_ODSWEN (1u << 17)
#define PWR_CSR TREC_REGISTER(0x40007004u)
#define PWR_CSR_ODRDY (1u << 16)
#define PWR_CSR_ODSWRDY (1u << 17)

#define FLASH_ACR TREC_REGISTER(0x40023C00u)

#define GPIO(port) (0x40020000u + 0x400u * (port))
#define GPIO_MODER(port) TREC_REGISTER(GPIO(port) + 0x00u)
#define GPIO_OSPEEDR(port) TREC_REGISTER(GPIO(port) + 0x08u)
#define GPIO_PUPDR(port) TREC_REGISTER(GPIO(port) + 0x0Cu)
#define GPIO_AFR(port, pin) TREC_REGISTER(GPIO(port) + 0x20u + 4u * ((pin) / 8u))

#define HSE_HZ 8000000u
#define HSI_HZ 16000000u
#define PLL_INPUT_HZ 2000000u /* the manuals' advice against jitter */
#define PLL_P 2u
#define PLL_Q 9u /* for USB, which is not used, but must not be overclocked */
#define PLL_N (TREC_CLOCK_HZ / (PLL_INPUT_HZ / PLL_P))
#define HSE_PATIENCE 100000u /* polls; a crystal starts within 2 ms, about 10000 of them */

_Static_assert(PLL_N >= 50u && PLL_N <= 216u, "TREC_CLOCK_HZ is out of the PLL's reach");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ / 4u, "the USART is on APB1, which runs at a quarter of the core");

/* Source and divider of the PLL: 8 MHz from the board, or the chip's own 16 MHz (1 % off) if the board is silent. */
static uint32_t start_oscillator(trec_stm32_hse hse)
{
    if (hse == TREC_HSE_CLOCK) {
        RCC_CR |= RCC_CR_HSEBYP;
    }
    RCC_CR |= RCC_CR_HSEON;
    for (uint32_t i = 0; i < HSE_PATIENCE; i++) {
        if (RCC_CR & RCC_CR_HSERDY) {
            return HSE_HZ / PLL_INPUT_HZ | RCC_PLLCFGR_HSE;
        }
    }
    RCC_CR &= ~RCC_CR_HSEON;
    return HSI_HZ / PLL_INPUT_HZ;
}

static void start_over_drive(void)
{
#if TREC_CLOCK_HZ > 168000000u
    PWR_CR |= PWR_CR_ODEN;
    while (!(PWR_CSR & PWR_CSR_ODRDY)) {
    }
    PWR_CR |= PWR_CR_ODSWEN;
    while (!(PWR_CSR & PWR_CSR_ODSWRDY)) {
    }
#endif
}

/* The order is the manuals': "Entering Over-drive mode", in the chapter PWR. */
void trec_stm32_start_clock(trec_stm32_hse hse, uint32_t flash_options)
{
    const uint32_t flash = TREC_FLASH_WAIT_STATES | flash_options;
    RCC_APB1ENR |= RCC_APB1ENR_PWREN;
    (void)RCC_APB1ENR; /* a peripheral answers two cycles after its clock is enabled */
    PWR_CR |= PWR_CR_VOS_SCALE1;
    RCC_PLLCFGR = start_oscillator(hse) | PLL_N << 6 | (PLL_P / 2u - 1u) << 16 | PLL_Q << 24 | RCC_PLLCFGR_RESERVED;
    RCC_CR |= RCC_CR_PLLON;
    start_over_drive();
    FLASH_ACR = flash;
    while ((FLASH_ACR & 15u) != TREC_FLASH_WAIT_STATES) {
    }
    RCC_CFGR |= RCC_CFGR_PPRE1_DIV4 | RCC_CFGR_PPRE2_DIV2;
    while (!(RCC_CR & RCC_CR_PLLRDY)) {
    }
    RCC_CFGR |= RCC_CFGR_SW_PLL;
    while ((RCC_CFGR & RCC_CFGR_SWS_MASK) != RCC_CFGR_SWS_PLL) {
    }
}

void trec_stm32_use_usart_pin(uint32_t port, uint32_t pin)
{
    RCC_AHB1ENR |= 1u << port;
    (void)RCC_AHB1ENR;
    GPIO_AFR(port, pin) |= USART_AF << (4u * (pin % 8u)); /* all fields of these pins are 0 after reset */
    GPIO_OSPEEDR(port) |= 2u << (2u * pin);
    GPIO_PUPDR(port) |= 1u << (2u * pin); /* up: an open line is an idle line */
    GPIO_MODER(port) |= 2u << (2u * pin);
}

void trec_stm32_enable_usart(void)
{
    RCC_APB1ENR |= USART_ENABLE;
    (void)RCC_APB1ENR;
}
