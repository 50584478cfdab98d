/* Start-up order and pins. Registers: chapter GPIO of any STM32 manual but the F1's; they differ in address only. */
#include "trec_port.h"

#include "trec_marker.h"
#include "trec_stm32.h"

#define GPIO(port) (TREC_GPIO + 0x400u * (port))
#define GPIO_MODER(port) TREC_REGISTER(GPIO(port) + 0x00u)
#define GPIO_OSPEEDR(port) TREC_REGISTER(GPIO(port) + 0x08u)
#define GPIO_PUPDR(port) TREC_REGISTER(GPIO(port) + 0x0Cu)
#define GPIO_BSRR(port) TREC_REGISTER(GPIO(port) + 0x18u)
#define GPIO_AFR(port, pin) TREC_REGISTER(GPIO(port) + 0x20u + 4u * ((pin) / 8u))

/* Some families' pins start as analog inputs, the others' as digital ones: no field can be taken to be 0. */
static void set_field(volatile uint32_t *word, uint32_t at, uint32_t mask, uint32_t value)
{
    *word = (*word & ~(mask << at)) | value << at;
}

static void enable_port(uint32_t port)
{
    TREC_GPIO_ENABLE |= 1u << (port + TREC_GPIO_ENABLE_SHIFT);
    (void)TREC_GPIO_ENABLE; /* a peripheral answers two cycles after its clock is enabled */
}

void trec_stm32_use_pin(uint32_t port, uint32_t pin, uint32_t function)
{
    enable_port(port);
    set_field(&GPIO_AFR(port, pin), 4u * (pin % 8u), 15u, function);
    set_field(&GPIO_OSPEEDR(port), 2u * pin, 3u, 2u);
    set_field(&GPIO_PUPDR(port), 2u * pin, 3u, 1u); /* up: an open line is an idle line */
    set_field(&GPIO_MODER(port), 2u * pin, 3u, 2u);
}

#ifdef TREC_MARKER_PIN
void trec_mark(uint32_t level)
{
    GPIO_BSRR(TREC_MARKER_PORT) = 1u << (level ? TREC_MARKER_PIN : TREC_MARKER_PIN + 16u);
}

/* It has its level before it drives the line, so that the instrument sees no edge. */
static void start_marker(void)
{
    enable_port(TREC_MARKER_PORT);
    trec_mark(TREC_MARKER_AT_REST);
    set_field(&GPIO_PUPDR(TREC_MARKER_PORT), 2u * TREC_MARKER_PIN, 3u, 0u);
    set_field(&GPIO_MODER(TREC_MARKER_PORT), 2u * TREC_MARKER_PIN, 3u, 1u);
}
#else
static void start_marker(void)
{
}
#endif

void trec_port_init(void)
{
    trec_stm32_start_clock();
    trec_core_start_cycle_counter();
    start_marker();
    trec_stm32_use_pin(TREC_TX_PORT, TREC_TX_PIN, TREC_PIN_FUNCTION);
    trec_stm32_use_pin(TREC_RX_PORT, TREC_RX_PIN, TREC_PIN_FUNCTION);
    TREC_USART_ENABLE |= 1u << TREC_USART_ENABLE_BIT;
    (void)TREC_USART_ENABLE;
    trec_stm32_start_usart();
}

uint32_t trec_port_clock_hz(void)
{
    return TREC_CLOCK_HZ;
}
