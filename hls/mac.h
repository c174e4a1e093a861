// The multiply-accumulate array: one weight element times one input element per cycle.
#ifndef SQUEEZEEDGE_VTA_MAC_H
#define SQUEEZEEDGE_VTA_MAC_H

#include "isa.h"

namespace vta {

inline int32_t add(int32_t a, int32_t b) {
#pragma HLS inline
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));  // wraps, as hardware does
}

using Product = Signed<16>;  // of two int8

// high * x and low * x from one multiplication of 25 x 8 bits, which one DSP slice (25 x 18 in the 7 series) does.
//
// (high * 2^16 + low) * x = high * x * 2^16 + low * x. low * x lies in -16256..16384, so the low 16 bits of the product
// are low * x in two's complement, and what is above them is high * x, less one where low * x is negative. The largest
// factor is 2^23 + 2^7 (25 bits signed), the largest product 2^30 + 2^14: exact for all int8 values.
inline void multiply_pair(int8_t high, int8_t low, int8_t x, Product& high_product, Product& low_product) {
#pragma HLS inline
  const Signed<25> packed(high * 65536 + low);
  const Signed<32> product(packed * x);
#pragma HLS bind_op variable=product op=mul impl=dsp  // 128 of these fit a small part, 256 plain ones do not
  const int32_t both = static_cast<int32_t>(product);
  low_product = Product(both);
  high_product = Product((both >> 16) + (low_product < 0 ? 1 : 0));
}

// result[o] = sum over i of weights[o].lane[i] * x[i].
inline Vector32 multiply(const Vector8 (&weights)[BLOCK], const Vector8& x) {
#pragma HLS inline
  Vector32 result;
#if VTA_DSP_PACKING
  for (int o = 0; o < BLOCK; o += 2) {
#pragma HLS unroll
    const Vector8 low = weights[o], high = weights[o + 1];
    int32_t even = 0, odd = 0;
    for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
      Product low_product, high_product;
      multiply_pair(high.lane[i], low.lane[i], x.lane[i], high_product, low_product);
      even += static_cast<int32_t>(low_product);
      odd += static_cast<int32_t>(high_product);
    }
    result.lane[o] = even;
    result.lane[o + 1] = odd;
  }
#else
  for (int o = 0; o < BLOCK; ++o) {
#pragma HLS unroll
    const Vector8 row = weights[o];
    int32_t sum = 0;
    for (int i = 0; i < BLOCK; ++i) {
#pragma HLS unroll
      sum += static_cast<int16_t>(row.lane[i] * x.lane[i]);
    }
    result.lane[o] = sum;
  }
#endif
  return result;
}

}  // namespace vta

#endif  // SQUEEZEEDGE_VTA_MAC_H
