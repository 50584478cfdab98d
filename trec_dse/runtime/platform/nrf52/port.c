/* Clock, cache, pins and serial port of the nRF52840. Registers: its Product Specification, chapters CLOCK, NVMC, GPIO
 * and UART (the one without DMA: a byte at a time is what the protocol takes). */
#include "trec_port.h"

#include "board.h"
#include "trec_core.h"
#include "trec_marker.h"

#define CLOCK_TASKS_HFCLKSTART TREC_REGISTER(0x40000000u)
#define CLOCK_HFCLKSTAT TREC_REGISTER(0x4000040Cu)
#define CLOCK_HFCLKSTAT_CRYSTAL (1u << 0 | 1u << 16) /* it is the source, and it runs */

#define NVMC_ICACHECNF TREC_REGISTER(0x4001E540u)
#define NVMC_ICACHECNF_CACHEEN (1u << 0)

#define GPIO(port) (0x50000000u + 0x300u * (port))
#define GPIO_OUTSET(port) TREC_REGISTER(GPIO(port) + 0x508u)
#define GPIO_OUTCLR(port) TREC_REGISTER(GPIO(port) + 0x50Cu)
#define GPIO_PIN_CNF(port, pin) TREC_REGISTER(GPIO(port) + 0x700u + 4u * (pin))
#define GPIO_PIN_CNF_OUTPUT 3u        /* and the input buffer off */
#define GPIO_PIN_CNF_PULL_UP (3u << 2) /* an open line is an idle line */

#define UART_TASKS_STARTRX TREC_REGISTER(TREC_USART_BASE + 0x000u)
#define UART_TASKS_STARTTX TREC_REGISTER(TREC_USART_BASE + 0x008u)
#define UART_EVENTS_RXDRDY TREC_REGISTER(TREC_USART_BASE + 0x108u)
#define UART_EVENTS_TXDRDY TREC_REGISTER(TREC_USART_BASE + 0x11Cu)
#define UART_ENABLE TREC_REGISTER(TREC_USART_BASE + 0x500u)
#define UART_ENABLE_UART 4u
#define UART_PSELTXD TREC_REGISTER(TREC_USART_BASE + 0x50Cu)
#define UART_PSELRXD TREC_REGISTER(TREC_USART_BASE + 0x514u)
#define UART_RXD TREC_REGISTER(TREC_USART_BASE + 0x518u)
#define UART_TXD TREC_REGISTER(TREC_USART_BASE + 0x51Cu)
#define UART_BAUDRATE TREC_REGISTER(TREC_USART_BASE + 0x524u)
#define UART_CONFIG TREC_REGISTER(TREC_USART_BASE + 0x56Cu)
#define UART_CONFIG_8N1 0u

#if TREC_USART_BASE != 0x40002000u /* UART0 */
#error "TREC_USART_BASE: add this USART's enable bit here"
#endif

/* The specification names values for these rates and no others. */
#if TREC_BAUD == 9600
#define BAUDRATE 0x00275000u
#elif TREC_BAUD == 115200
#define BAUDRATE 0x01D7E000u
#elif TREC_BAUD == 230400
#define BAUDRATE 0x03AFB000u
#elif TREC_BAUD == 460800
#define BAUDRATE 0x075F7000u
#elif TREC_BAUD == 921600
#define BAUDRATE 0x0EBED000u
#elif TREC_BAUD == 1000000
#define BAUDRATE 0x10000000u
#else
#define BAUDRATE 0u
_Static_assert(TREC_BAUD == 0u, "TREC_BAUD: 9600, 115200, 230400, 460800, 921600 or 1000000");
#endif

_Static_assert(TREC_CLOCK_HZ == 64000000u, "the core of an nRF52 runs at 64 MHz and at nothing else");
_Static_assert(TREC_USART_CLOCK_HZ == 16000000u, "the USART's bus runs at 16 MHz");
_Static_assert(!TREC_OSCILLATOR_IS_INTERNAL && TREC_OSCILLATOR_HZ == 32000000u,
               "this start-up code knows a 32 MHz crystal only");

/* The core runs at 64 MHz either way, but the chip's own oscillator is too far off for a fast port. */
static void start_crystal(void)
{
    CLOCK_TASKS_HFCLKSTART = 1;
    while ((CLOCK_HFCLKSTAT & CLOCK_HFCLKSTAT_CRYSTAL) != CLOCK_HFCLKSTAT_CRYSTAL) {
    }
}

/* Pins are routed by number; while the port is off they are what GPIO makes of them. */
static void start_uart(void)
{
    GPIO_OUTSET(TREC_TX_PORT) = 1u << TREC_TX_PIN;
    GPIO_PIN_CNF(TREC_TX_PORT, TREC_TX_PIN) = GPIO_PIN_CNF_OUTPUT;
    GPIO_PIN_CNF(TREC_RX_PORT, TREC_RX_PIN) = GPIO_PIN_CNF_PULL_UP;
    UART_PSELTXD = TREC_TX_PORT << 5 | TREC_TX_PIN;
    UART_PSELRXD = TREC_RX_PORT << 5 | TREC_RX_PIN;
    UART_BAUDRATE = BAUDRATE;
    UART_CONFIG = UART_CONFIG_8N1;
    UART_ENABLE = UART_ENABLE_UART;
    UART_EVENTS_RXDRDY = 0;
    UART_EVENTS_TXDRDY = 0;
    UART_TASKS_STARTTX = 1;
    UART_TASKS_STARTRX = 1;
}

#ifdef TREC_MARKER_PIN
void trec_mark(uint32_t level)
{
    if (level) {
        GPIO_OUTSET(TREC_MARKER_PORT) = 1u << TREC_MARKER_PIN;
    } else {
        GPIO_OUTCLR(TREC_MARKER_PORT) = 1u << TREC_MARKER_PIN;
    }
}

/* It has its level before it drives the line, so that the instrument sees no edge. */
static void start_marker(void)
{
    trec_mark(TREC_MARKER_AT_REST);
    GPIO_PIN_CNF(TREC_MARKER_PORT, TREC_MARKER_PIN) = GPIO_PIN_CNF_OUTPUT;
}
#else
static void start_marker(void)
{
}
#endif

void trec_port_init(void)
{
    NVMC_ICACHECNF = NVMC_ICACHECNF_CACHEEN;
    start_crystal();
    trec_core_start_cycle_counter();
    start_marker();
    start_uart();
}

/* Six bytes wait in the chip; taking one out raises the event anew for the next, so it is cleared first. */
uint8_t trec_port_read(void)
{
    while (!UART_EVENTS_RXDRDY) {
    }
    UART_EVENTS_RXDRDY = 0;
    return (uint8_t)UART_RXD;
}

void trec_port_write(uint8_t byte)
{
    UART_TXD = byte;
    while (!UART_EVENTS_TXDRDY) {
    }
    UART_EVENTS_TXDRDY = 0;
}

/* trec_port_write() has waited already. */
void trec_port_flush(void)
{
}

uint32_t trec_port_clock_hz(void)
{
    return TREC_CLOCK_HZ;
}
