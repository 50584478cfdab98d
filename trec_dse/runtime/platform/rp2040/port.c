/* Clocks, pins, serial port and cycle counter of the RP2040. Registers: RP2040 Datasheet, 2.14 (resets), 2.15 (clocks),
 * 2.16 (XOSC), 2.18 (PLL), 2.19 (GPIO), 2.3.1 (SIO), 4.2 (UART), 4.6 (timer), 4.7 (watchdog). */
#include "trec_port.h"

#include "board.h"
#include "trec_core.h"
#include "trec_marker.h"

#define RESETS_RESET TREC_REGISTER(0x4000C000u)
#define RESETS_DONE TREC_REGISTER(0x4000C008u)
#define RESETS_IO_BANK0 (1u << 5)
#define RESETS_PADS_BANK0 (1u << 8)
#define RESETS_PLL_SYS (1u << 12)
#define RESETS_TIMER (1u << 21)

#define CLK_REF_CTRL TREC_REGISTER(0x40008030u)
#define CLK_REF_CTRL_XOSC 2u
#define CLK_REF_SELECTED TREC_REGISTER(0x40008038u)
#define CLK_SYS_CTRL TREC_REGISTER(0x4000803Cu)
#define CLK_SYS_CTRL_REF 0u
#define CLK_SYS_CTRL_PLL 1u /* of the auxiliary sources, of which the PLL is number 0 */
#define CLK_SYS_DIV TREC_REGISTER(0x40008040u)
#define CLK_SYS_SELECTED TREC_REGISTER(0x40008044u)
#define CLK_PERI_CTRL TREC_REGISTER(0x40008048u)
#define CLK_PERI_CTRL_SYS (1u << 11) /* enabled, from clk_sys */
#define CLK_SYS_RESUS_CTRL TREC_REGISTER(0x40008078u)

#define XOSC_CTRL TREC_REGISTER(0x40024000u)
#define XOSC_CTRL_RANGE 0xAA0u
#define XOSC_CTRL_ENABLE (0xFABu << 12)
#define XOSC_STATUS TREC_REGISTER(0x40024004u)
#define XOSC_STATUS_STABLE (1u << 31)
#define XOSC_STARTUP TREC_REGISTER(0x4002400Cu)
#define XOSC_STARTUP_1_MS (TREC_OSCILLATOR_HZ / 1000u / 256u + 1u)

#define PLL_CS TREC_REGISTER(0x40028000u)
#define PLL_CS_LOCK (1u << 31)
#define PLL_PWR TREC_REGISTER(0x40028004u)
#define PLL_PWR_VCO (1u << 5 | 1u << 0)
#define PLL_PWR_POSTDIV (1u << 3)
#define PLL_FBDIV TREC_REGISTER(0x40028008u)
#define PLL_PRIM TREC_REGISTER(0x4002800Cu)
#define POSTDIV_1 6u
#define POSTDIV_2 2u
#define VCO_MHZ (TREC_CLOCK_HZ / 1000000u * POSTDIV_1 * POSTDIV_2)
#define XOSC_MHZ (TREC_OSCILLATOR_HZ / 1000000u)

#define IO_CTRL(pin) TREC_REGISTER(0x40014004u + 8u * (pin))
#define PAD(pin) TREC_REGISTER(0x4001C004u + 4u * (pin))
#define IO_CTRL_SIO 5u
#define SIO_OUT_SET TREC_REGISTER(0xD0000014u)
#define SIO_OUT_CLR TREC_REGISTER(0xD0000018u)
#define SIO_OE_SET TREC_REGISTER(0xD0000024u)
#define PAD_PULL_UP 0x5Au /* input on, 4 mA, Schmitt trigger; an open line is an idle line */

#define UART_DR TREC_REGISTER(TREC_USART_BASE + 0x00u)
#define UART_FR TREC_REGISTER(TREC_USART_BASE + 0x18u)
#define UART_FR_BUSY (1u << 3)
#define UART_FR_RXFE (1u << 4)
#define UART_FR_TXFF (1u << 5)
#define UART_IBRD TREC_REGISTER(TREC_USART_BASE + 0x24u)
#define UART_FBRD TREC_REGISTER(TREC_USART_BASE + 0x28u)
#define UART_LCR_H TREC_REGISTER(TREC_USART_BASE + 0x2Cu)
#define UART_LCR_H_8N1_FIFO (3u << 5 | 1u << 4)
#define UART_CR TREC_REGISTER(TREC_USART_BASE + 0x30u)
#define UART_CR_ON (1u << 0 | 1u << 8 | 1u << 9)
#define DIVIDER_64THS ((TREC_USART_CLOCK_HZ * 4u + TREC_BAUD / 2u) / TREC_BAUD) /* of sixteen samples a bit */

#define TIMER_RAW_LOW TREC_REGISTER(0x40054028u)
#define WATCHDOG_CTRL TREC_REGISTER(0x40058000u)
#define WATCHDOG_CTRL_TRIGGER (1u << 31)
#define WATCHDOG_TICK TREC_REGISTER(0x4005802Cu)
#define WATCHDOG_TICK_ENABLE (1u << 9)
#define PSM_WDSEL TREC_REGISTER(0x40010008u)
#define PSM_WDSEL_ALL_BUT_OSCILLATORS 0x1FFFCu
#define SYST_CSR TREC_REGISTER(0xE000E010u)
#define SYST_CSR_CORE_CLOCK (1u << 2 | 1u << 0)
#define SYST_RVR TREC_REGISTER(0xE000E014u)
#define SYST_CVR TREC_REGISTER(0xE000E018u)
#define SYST_MASK 0xFFFFFFu

#if TREC_USART_BASE == 0x40034000u /* UART0 */
#define RESETS_UART (1u << 22)
#elif TREC_USART_BASE == 0x40038000u /* UART1 */
#define RESETS_UART (1u << 23)
#else
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

_Static_assert(!TREC_OSCILLATOR_IS_CLOCK && !TREC_OSCILLATOR_IS_INTERNAL, "this start-up code knows a crystal only");
_Static_assert(TREC_CLOCK_HZ <= 133000000u && TREC_CLOCK_HZ % 1000000u == 0, "the core runs at whole MHz up to 133");
_Static_assert(VCO_MHZ >= 750u && VCO_MHZ % XOSC_MHZ == 0, "TREC_CLOCK_HZ is out of the PLL's reach");
_Static_assert(TREC_USART_CLOCK_HZ == TREC_CLOCK_HZ, "the USART's bus runs at the core's clock");

static void release_from_reset(uint32_t blocks)
{
    RESETS_RESET &= ~blocks;
    while ((RESETS_DONE & blocks) != blocks) {
    }
}

/* A debugger's reset leaves the clocks as they are: the core leaves the PLL before that is touched. */
static void run_from_crystal(void)
{
    CLK_SYS_RESUS_CTRL = 0;
    XOSC_CTRL = XOSC_CTRL_RANGE;
    XOSC_STARTUP = XOSC_STARTUP_1_MS;
    XOSC_CTRL = XOSC_CTRL_RANGE | XOSC_CTRL_ENABLE;
    while (!(XOSC_STATUS & XOSC_STATUS_STABLE)) {
    }
    CLK_SYS_CTRL = CLK_SYS_CTRL_REF;
    while (!(CLK_SYS_SELECTED & 1u << CLK_SYS_CTRL_REF)) {
    }
    CLK_REF_CTRL = CLK_REF_CTRL_XOSC;
    while (!(CLK_REF_SELECTED & 1u << CLK_REF_CTRL_XOSC)) {
    }
}

static void run_from_pll(void)
{
    RESETS_RESET |= RESETS_PLL_SYS;
    release_from_reset(RESETS_PLL_SYS);
    PLL_CS = 1; /* the crystal, undivided */
    PLL_FBDIV = VCO_MHZ / XOSC_MHZ;
    PLL_PWR &= ~PLL_PWR_VCO;
    while (!(PLL_CS & PLL_CS_LOCK)) {
    }
    PLL_PRIM = POSTDIV_1 << 16 | POSTDIV_2 << 12;
    PLL_PWR &= ~PLL_PWR_POSTDIV;
    CLK_SYS_DIV = 1u << 8;
    CLK_SYS_CTRL = CLK_SYS_CTRL_PLL;
    while (!(CLK_SYS_SELECTED & 1u << CLK_SYS_CTRL_PLL)) {
    }
    CLK_PERI_CTRL = CLK_PERI_CTRL_SYS;
}

/* There is no 32-bit counter at the core's clock: SysTick has its low 24 bits, the microseconds tell the rest. */
static void start_cycle_counter(void)
{
    WATCHDOG_TICK = XOSC_MHZ | WATCHDOG_TICK_ENABLE; /* one tick a microsecond, also for the timer */
    SYST_RVR = SYST_MASK;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_CORE_CLOCK;
}

/* Both come from one crystal, so their distance stays what it was at the start: a few microseconds of the 63 ms, half a
 * turn of SysTick at 133 MHz, that may be between them. */
uint32_t trec_port_cycles(void)
{
    const uint32_t coarse = TIMER_RAW_LOW * (TREC_CLOCK_HZ / 1000000u);
    const uint32_t fine = (0u - SYST_CVR) & SYST_MASK;
    return fine + ((coarse - fine + (SYST_MASK + 1u) / 2u) & ~SYST_MASK);
}

static void start_uart(void)
{
    PAD(TREC_TX_PIN) = PAD_PULL_UP;
    PAD(TREC_RX_PIN) = PAD_PULL_UP;
    IO_CTRL(TREC_TX_PIN) = TREC_PIN_FUNCTION;
    IO_CTRL(TREC_RX_PIN) = TREC_PIN_FUNCTION;
    UART_IBRD = DIVIDER_64THS / 64u;
    UART_FBRD = DIVIDER_64THS % 64u;
    UART_LCR_H = UART_LCR_H_8N1_FIFO; /* takes the divider over, too */
    UART_CR = UART_CR_ON;
}

#ifdef TREC_MARKER_PIN
void trec_mark(uint32_t level)
{
    if (level) {
        SIO_OUT_SET = 1u << TREC_MARKER_PIN;
    } else {
        SIO_OUT_CLR = 1u << TREC_MARKER_PIN;
    }
}

/* It has its level before it drives the line, so that the instrument sees no edge. */
static void start_marker(void)
{
    trec_mark(TREC_MARKER_AT_REST);
    SIO_OE_SET = 1u << TREC_MARKER_PIN;
    IO_CTRL(TREC_MARKER_PIN) = IO_CTRL_SIO;
}
#else
static void start_marker(void)
{
}
#endif

void trec_port_init(void)
{
    run_from_crystal();
    run_from_pll();
    RESETS_RESET |= RESETS_TIMER | RESETS_UART;
    release_from_reset(RESETS_IO_BANK0 | RESETS_PADS_BANK0 | RESETS_TIMER | RESETS_UART);
    start_cycle_counter();
    start_marker();
    start_uart();
}

uint8_t trec_port_read(void)
{
    while (UART_FR & UART_FR_RXFE) {
    }
    return (uint8_t)UART_DR;
}

void trec_port_write(uint8_t byte)
{
    while (UART_FR & UART_FR_TXFF) {
    }
    UART_DR = byte;
}

void trec_port_flush(void)
{
    while (UART_FR & UART_FR_BUSY) {
    }
}

uint32_t trec_port_clock_hz(void)
{
    return TREC_CLOCK_HZ;
}

/* The core's own request would reset nothing but the core (2.4.2.9). */
void trec_port_reset(void)
{
    PSM_WDSEL = PSM_WDSEL_ALL_BUT_OSCILLATORS;
    WATCHDOG_CTRL = WATCHDOG_CTRL_TRIGGER;
    for (;;) {
    }
}
