/* Private to index/kernel: what making codes takes, by level. The table is filled from the level's
 * own file. */
#ifndef KERNEL_KERNEL_ENCODE_H
#define KERNEL_KERNEL_ENCODE_H

#include "kernel_levels.h"

void quantise6_scalar(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                      size_t dim);
void unit_sums_scalar(struct kernel_sums *out, const struct kernel_residual *residual,
                      const uint16_t *units, size_t count);
void trellis_encode_scalar(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells);
void decoded_sums_scalar(struct kernel_decoded *out, const struct kernel_decoding *how,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first,
                         uint32_t end);
void decoded_products_scalar(float *out, const struct kernel_decoding *how, const uint8_t *cells,
                             uint32_t first, uint32_t end);
void quantise6_avx2(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                    size_t dim);
void unit_sums_avx2(struct kernel_sums *out, const struct kernel_residual *residual,
                    const uint16_t *units, size_t count);
void trellis_encode_avx2(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells);
void quantise6_avx512(uint8_t *bits6, const float *y, const float *sigma, const float *edges,
                      size_t dim);
void unit_sums_avx512(struct kernel_sums *out, const struct kernel_residual *residual,
                      const uint16_t *units, size_t count);
void trellis_encode_avx512(uint8_t *indexes, const struct kernel_path *path, const uint8_t *cells);
void decoded_sums_avx512(struct kernel_decoded *out, const struct kernel_decoding *how,
                         const uint8_t *cells, const uint8_t *indexes, uint32_t first,
                         uint32_t end);
void decoded_products_avx512(float *out, const struct kernel_decoding *how, const uint8_t *cells,
                             uint32_t first, uint32_t end);

#endif
