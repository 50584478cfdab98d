/* What the parts of strip convolutions add up to on cores with the DSP extension; other cores have portable.h's. */
#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)

/* trec_add_parts: the parts of a line from the last to the first, entered at the last.
 *
 * r0 ids of the line, r1 table of the line, r2 bytes of a row, r3 lines left, r4-r7 sums of two channels each, r8-r11
 * what the table has for a part, r12 the last part, lr id and place. The stack holds
 *     0 line step   4 bytes of a line's parts   8 where a line is entered   12 table   16 lines
 *     20 ids of the output   24 out step   28 outputs left   32 start   36 sums or output   40 factors
 *     44 zero   48 bytes from an output to the next, 52 from its start values to the next one's
 * At the end of an output r0 start, r1 sums or output, r3 factors, r8-r11 four sums, lr zero.
 */
#define LOOK(i)                                                                                                        \
    "mla lr, lr, r2, r1\n"                                                                                             \
    "ldr.w r8, [lr, #16*" #i "]\n"                                                                                     \
    "ldr.w r9, [lr, #16*" #i "+4]\n"                                                                                   \
    "ldr.w r10, [lr, #16*" #i "+8]\n"                                                                                  \
    "ldr.w r11, [lr, #16*" #i "+12]\n"
#define ADD_PART                                                                                                       \
    "sadd16 r4, r4, r8\n"                                                                                              \
    "sadd16 r5, r5, r9\n"                                                                                              \
    "sadd16 r6, r6, r10\n"                                                                                             \
    "sadd16 r7, r7, r11\n"
#define PART(i, before) LOOK(i) "ldrb.w lr, [r0, #" #before "]\n" ADD_PART
#define WIDEN_PARTS(a, b, at)                                                                                          \
    "ldr r8, [r0, #" #at "]\n"                                                                                         \
    "ldr r9, [r0, #" #at "+16]\n"                                                                                      \
    "ldr r10, [r0, #" #at "+32]\n"                                                                                     \
    "ldr r11, [r0, #" #at "+48]\n"                                                                                     \
    "sxtah r8, r8, " #a "\n"                                                                                           \
    "add r9, r9, " #a ", asr #16\n"                                                                                    \
    "sxtah r10, r10, " #b "\n"                                                                                         \
    "add r11, r11, " #b ", asr #16\n"                                                                                  \
    "str r8, [r1, #" #at "]\n"                                                                                         \
    "str r9, [r1, #" #at "+16]\n"                                                                                      \
    "str r10, [r1, #" #at "+32]\n"                                                                                     \
    "str r11, [r1, #" #at "+48]\n"
#define FINISH_PARTS(a, b, at, to)                                                                                     \
    "ldr r8, [r0, #" #at "]\n"                                                                                         \
    "ldr r9, [r0, #" #at "+16]\n"                                                                                      \
    "ldr r10, [r0, #" #at "+32]\n"                                                                                     \
    "ldr r11, [r0, #" #at "+48]\n"                                                                                     \
    "sxtah r8, r8, " #a "\n"                                                                                           \
    "add r9, r9, " #a ", asr #16\n"                                                                                    \
    "sxtah r10, r10, " #b "\n"                                                                                         \
    "add r11, r11, " #b ", asr #16\n"                                                                                  \
    "ldrd " #a ", " #b ", [r3], #8\n"                                                                                  \
    "smmlar r8, r8, " #a ", lr\n"                                                                                      \
    "smmlar r9, r9, " #b ", lr\n"                                                                                      \
    "ldrd " #a ", " #b ", [r3], #8\n"                                                                                  \
    "smmlar r10, r10, " #a ", lr\n"                                                                                    \
    "smmlar r11, r11, " #b ", lr\n"                                                                                    \
    "ssat r8, #8, r8\n"                                                                                                \
    "ssat r9, #8, r9\n"                                                                                                \
    "ssat r10, #8, r10\n"                                                                                              \
    "ssat r11, #8, r11\n"                                                                                              \
    "bfi r8, r9, #8, #8\n"                                                                                             \
    "bfi r8, r10, #16, #8\n"                                                                                           \
    "bfi r8, r11, #24, #8\n"                                                                                           \
    "str r8, [r1, #" #to "]\n"

__asm__(".section .text.trec_add_parts, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_add_parts\n"
        ".type trec_add_parts, %function\n"
        ".thumb_func\n"
        "trec_add_parts:\n"
        "push {r4-r11, lr}\n"
        "sub sp, sp, #60\n"
        "ldm r3, {r4-r10}\n" /* start, start_step, sums, factors, zero, out_c, outputs */
        "lsl r5, r5, #2\n"
        "cmp r7, #0\n"
        "it ne\n"
        "movne r6, r10\n"
        "strd r4, r6, [sp, #32]\n"
        "strd r7, r8, [sp, #40]\n"
        "strd r9, r5, [sp, #48]\n"
        "ldm r0, {r4-r9}\n" /* table, row_step, n_lines, n_parts, line_step, out_step */
        "strd r9, r2, [sp, #24]\n"
        "strd r6, r1, [sp, #16]\n"
        "lsl r9, r7, #4\n"
        "strd r8, r9, [sp]\n"
        "mov r2, r5\n"
        "sub r12, r7, #1\n"
        "rsb r7, r7, #11\n" /* parts to be left out; each is 40 bytes of code */
        "add r7, r7, r7, lsl #2\n"
        "adr r8, 3f\n"
        "add r8, r8, r7, lsl #3\n"
        "orr r8, r8, #1\n"
        "strd r8, r4, [sp, #8]\n"
        "1:\n"
        "ldrd r1, r3, [sp, #12]\n"
        "ldr r0, [sp, #20]\n"
        "mov r4, #0\n"
        "mov r5, #0\n"
        "mov r6, #0\n"
        "mov r7, #0\n"
        "2:\n"
        "ldr r8, [sp, #8]\n"
        "ldrb lr, [r0, r12]\n"
        "bx r8\n"
        ".balign 4\n"
        "3:\n" PART(10, 9) PART(9, 8) PART(8, 7) PART(7, 6) PART(6, 5) PART(5, 4) PART(4, 3) PART(3, 2) PART(2, 1)
        PART(1, 0) LOOK(0) ADD_PART
        "subs r3, r3, #1\n"
        "beq 4f\n"
        "ldrd r8, r9, [sp]\n"
        "add r0, r0, r8\n"
        "add r1, r1, r9\n"
        "b 2b\n"
        "4:\n"
        "ldrd r0, r1, [sp, #32]\n"
        "ldrd r3, lr, [sp, #40]\n"
        "cmp r3, #0\n"
        "beq 5f\n" FINISH_PARTS(r4, r5, 0, 0) FINISH_PARTS(r6, r7, 64, 4)
        "ldrd r8, r9, [sp, #48]\n"
        "add r1, r1, r8\n"
        "add r0, r0, r9\n"
        "b 6f\n"
        "5:\n" WIDEN_PARTS(r4, r5, 0) WIDEN_PARTS(r6, r7, 64)
        "ldr r9, [sp, #52]\n"
        "adds r1, r1, #4\n"
        "add r0, r0, r9\n"
        "6:\n"
        "ldr r3, [sp, #28]\n"
        "ldrd r8, r9, [sp, #20]\n"
        "add r8, r8, r9\n"
        "strd r0, r1, [sp, #32]\n"
        "str r8, [sp, #20]\n"
        "subs r3, r3, #1\n"
        "str r3, [sp, #28]\n"
        "bgt 1b\n"
        "add sp, sp, #60\n"
        "pop {r4-r11, pc}\n"
        ".size trec_add_parts, . - trec_add_parts\n"
        ".text\n");

#endif
