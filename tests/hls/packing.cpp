// Two multiplications in one, for all pairs of weights and all inputs. Prints the number of wrong products.
#include <cstdio>

#include "mac.h"

int main() {
  long wrong = 0;
  for (int high = -128; high < 128; ++high) {
    for (int low = -128; low < 128; ++low) {
      for (int x = -128; x < 128; ++x) {
        vta::Product high_product, low_product;
        vta::multiply_pair(static_cast<int8_t>(high), static_cast<int8_t>(low), static_cast<int8_t>(x), high_product,
                           low_product);
        wrong += static_cast<int32_t>(high_product) != high * x || static_cast<int32_t>(low_product) != low * x;
      }
    }
  }
  std::printf("%ld\n", wrong);
  return 0;
}
