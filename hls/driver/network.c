/* Runs a network: packs the image, writes the registers, starts, waits, reads the class sums. */
#include "network.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The constant regions, from the start of the DRAM on. */
__asm__(".section .rodata\n.balign 64\nvta_image:\n.incbin \"" MODEL_IMAGE_FILE "\"\n.previous\n");
extern const uint8_t vta_image[];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static VtaDevice *device;
static uint8_t packed[MODEL_PACKED_BYTES]; /* in cached memory: the DRAM may not be */

static VtaDevice *open_device(char *message) {
  VtaDevice *opened = vta_open(MODEL_DRAM_BYTES, message);
  if (opened == NULL) return NULL;
  uint8_t *dram = vta_dram(opened).data;
  memcpy(dram, vta_image, MODEL_IMAGE_BYTES);
  memset(dram + MODEL_IMAGE_BYTES, 0, MODEL_DRAM_BYTES - MODEL_IMAGE_BYTES);
  for (size_t i = 0; i < COUNT(model_fills); ++i)
    memset(dram + model_fills[i].offset, model_fills[i].value, model_fills[i].bytes);
  return opened;
}

/* The pixel at a position that may lie outside of the image: its three channels. */
static const uint8_t *pixel(const VtaPacking *packing, const uint8_t *image, int64_t y, int64_t x) {
  if (y < 0 || x < 0 || y >= MODEL_HEIGHT || x >= MODEL_WIDTH) return packing->pad_value;
  return image + (y * MODEL_WIDTH + x) * 3;
}

static void pack(const VtaPacking *packing, const uint8_t *image, uint8_t *dram) {
  const uint64_t plane = (uint64_t)packing->height * packing->width * packing->block;
  memset(packed, 0, packing->blocks * plane);
  for (uint32_t tap = 0; tap < packing->kernel_h * packing->kernel_w; ++tap) {
    for (uint32_t row = 0; row < packing->height; ++row) {
      for (uint32_t column = 0; column < packing->width; ++column) {
        const int64_t y = (int64_t)row * packing->stride_h + tap / packing->kernel_w - packing->top;
        const int64_t x = (int64_t)column * packing->stride_w + tap % packing->kernel_w - packing->left;
        const uint8_t *channels = pixel(packing, image, y, x);
        uint8_t *patch = packed + ((uint64_t)row * packing->width + column) * packing->block;
        for (uint32_t c = 0; c < 3; ++c) {
          const uint32_t value = tap * 3 + c;
          patch[value / packing->block * plane + value % packing->block] = channels[c] ^ MODEL_SIGN; /* taken as int8, q - 128 */
        }
      }
    }
  }
  memcpy(dram + packing->offset, packed, packing->blocks * plane);
}

static void unpack(const uint8_t *dram, int32_t *sums) {
  for (uint32_t c = 0; c < MODEL_CLASSES; ++c) {
    uint32_t value = 0;
    for (uint32_t byte = 0; byte < 4; ++byte)
      value |= (uint32_t)dram[MODEL_SUMS + c * MODEL_CLASS_STRIDE + byte * MODEL_BYTE_STRIDE] << (8 * byte);
    sums[c] = (int32_t)value;
  }
}

static void write_registers(uint64_t address) {
  for (size_t i = 0; i < COUNT(model_registers); ++i) {
    const VtaRegister *entry = &model_registers[i];
    const uint64_t value = entry->value + (entry->offset == VTA_COUNT ? 0 : address);
    vta_write(device, entry->offset, (uint32_t)value);
    if (entry->offset != VTA_COUNT) vta_write(device, entry->offset + 4, (uint32_t)(value >> 32));
  }
}

static int run(const uint8_t *image, int32_t *sums, char *message) {
  if (device == NULL && (device = open_device(message)) == NULL) return -1;
  if (!(vta_read(device, VTA_CONTROL) & VTA_IDLE)) {
    snprintf(message, VTA_MESSAGE_BYTES, "the accelerator is busy; load its bitstream again");
    return -1;
  }
  const VtaDram dram = vta_dram(device);
  for (size_t i = 0; i < COUNT(model_packings); ++i) pack(&model_packings[i], image, dram.data);
  write_registers(dram.address);
  vta_write(device, VTA_CONTROL, VTA_START);
  if (vta_wait(device, MODEL_TIMEOUT_US, message) != 0) return -1;
  unpack(dram.data, sums);
  return 0;
}

static void close_device(void) {
  if (device != NULL) vta_close(device);
  device = NULL;
}

int vta_class_sums(const uint8_t *image, int32_t *sums, char *message) {
  pthread_mutex_lock(&mutex);
  const int status = run(image, sums, message);
  if (status != 0) close_device(); /* the next call begins with a fresh one */
  pthread_mutex_unlock(&mutex);
  return status;
}

/* When the library is unloaded. */
__attribute__((destructor)) static void unload(void) { close_device(); }
