/* The 12 bytes of eight 6-bit scales and eight 6-bit minima of Q4_K and Q5_K: those of sub-blocks
 * 0-3 are the low bits of bytes 0-3 and 4-7, whose upper bits belong to sub-blocks 4-7; the nibbles
 * of these are in bytes 8-11, scales low. */
static void k_scales(const uint8_t p[12], int8_t scale[8], int8_t min[8])
{
    for (int b = 0; b < 4; b++) {
        scale[b] = p[b] & 63;
        min[b] = p[b + 4] & 63;
        scale[b + 4] = (int8_t)((p[b + 8] & 15) | p[b] >> 6 << 4);
        min[b + 4] = (int8_t)(p[b + 8] >> 4 | p[b + 4] >> 6 << 4);
    }
}
