// A compiled network on the driver, from several threads at once, each of which runs all images.
// Usage: answers IMAGES SUMS THREADS; uint8 images after one another, int32 class sums likewise.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

extern "C" {
#include "driver/device.h"
#include "driver/network.h"
}
#include "model.h"

namespace {

constexpr size_t IMAGE_BYTES = size_t{MODEL_HEIGHT} * MODEL_WIDTH * 3;

void run(const std::vector<uint8_t>& images, std::vector<int32_t>& sums) {
  char message[VTA_MESSAGE_BYTES] = "";
  for (size_t i = 0; i < images.size() / IMAGE_BYTES; ++i) {
    if (vta_class_sums(images.data() + i * IMAGE_BYTES, sums.data() + i * MODEL_CLASSES, message) != 0) {
      std::fprintf(stderr, "%s\n", message);
      std::exit(1);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  std::FILE* file = std::fopen(arguments[1], "rb");
  if (file == nullptr) return 2;
  std::vector<uint8_t> images, image(IMAGE_BYTES);
  while (std::fread(image.data(), IMAGE_BYTES, 1, file) == 1) images.insert(images.end(), image.begin(), image.end());
  std::fclose(file);

  const size_t threads = std::strtoul(arguments[3], nullptr, 10);
  std::vector<std::vector<int32_t>> sums(threads, std::vector<int32_t>(images.size() / IMAGE_BYTES * MODEL_CLASSES));
  std::vector<std::thread> callers;
  for (size_t i = 0; i < threads; ++i) callers.emplace_back([&images, &sums, i] { run(images, sums[i]); });
  for (std::thread& caller : callers) caller.join();
  for (const std::vector<int32_t>& other : sums) {
    if (other != sums[0]) return 1;
  }
  file = std::fopen(arguments[2], "wb");
  if (file == nullptr) return 2;
  const bool written = std::fwrite(sums[0].data(), sizeof(int32_t), sums[0].size(), file) == sums[0].size();
  return std::fclose(file) == 0 && written ? 0 : 1;
}
