/* A board under Linux: the control port as a UIO device, the DRAM as a u-dma-buf device (github.com/ikwzm/udmabuf).

   SQUEEZEEDGE_VTA_UIO      control port; default /dev/uio0
   SQUEEZEEDGE_VTA_UDMABUF  memory; default /dev/udmabuf0
   SQUEEZEEDGE_VTA_SYSFS    where the memory's size and phys_addr are; default /sys/class/u-dma-buf/udmabuf0 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "device.h"

enum { PORT_BYTES = 4096, POLL_NS = 20000 };

struct VtaDevice {
  int port_file, dram_file; /* locked: program and activations of one network fill the memory */
  volatile uint32_t *port;
  uint8_t *dram;
  uint64_t address, bytes;
};

static const char *setting(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value != NULL ? value : otherwise;
}

/* Orders accesses to the DRAM and to the control port; both are mapped uncached. */
static void barrier(void) {
#if defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("dsb sy" ::: "memory");
#else
  __sync_synchronize();
#endif
}

static int read_number(const char *folder, const char *name, uint64_t *value, char *message) {
  char path[512], text[32] = "";
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r");
  const int found = file != NULL && fgets(text, sizeof text, file) != NULL;
  if (file != NULL) fclose(file);
  char *end = text;
  *value = strtoull(text, &end, 0);
  if (found && end != text) return 0;
  snprintf(message, VTA_MESSAGE_BYTES, "%.150s: no number; load the driver u-dma-buf or set SQUEEZEEDGE_VTA_SYSFS", path);
  return -1;
}

static int open_file(const char *path, char *message) {
  const int file = open(path, O_RDWR | O_SYNC | O_CLOEXEC); /* O_SYNC: u-dma-buf maps it uncached */
  if (file < 0)
    snprintf(message, VTA_MESSAGE_BYTES, "%.150s: %s; run as root on a board with the bitstream loaded", path,
             strerror(errno));
  return file;
}

static void *map(int file, const char *path, uint64_t bytes, char *message) {
  void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) snprintf(message, VTA_MESSAGE_BYTES, "%.150s: can't be mapped: %s", path, strerror(errno));
  return mapped;
}

static int set_up(VtaDevice *device, char *message) {
  const char *port = setting("SQUEEZEEDGE_VTA_UIO", "/dev/uio0");
  const char *memory = setting("SQUEEZEEDGE_VTA_UDMABUF", "/dev/udmabuf0");
  const char *folder = setting("SQUEEZEEDGE_VTA_SYSFS", "/sys/class/u-dma-buf/udmabuf0");
  uint64_t size;
  if ((device->port_file = open_file(port, message)) < 0 || (device->dram_file = open_file(memory, message)) < 0)
    return -1;
  if (flock(device->port_file, LOCK_EX | LOCK_NB) || flock(device->dram_file, LOCK_EX | LOCK_NB)) {
    snprintf(message, VTA_MESSAGE_BYTES, "another network runs on this accelerator; end its process");
    return -1;
  }
  if (read_number(folder, "size", &size, message) || read_number(folder, "phys_addr", &device->address, message))
    return -1;
  if (size < device->bytes) {
    snprintf(message, VTA_MESSAGE_BYTES, "%.150s: has %" PRIu64 " bytes, the network needs %" PRIu64, memory, size,
             device->bytes);
    return -1;
  }
  if ((device->port = map(device->port_file, port, PORT_BYTES, message)) == MAP_FAILED) return -1;
  return (device->dram = map(device->dram_file, memory, device->bytes, message)) == MAP_FAILED ? -1 : 0;
}

VtaDevice *vta_open(uint64_t dram_bytes, char *message) {
  VtaDevice *device = malloc(sizeof *device);
  if (device == NULL) {
    snprintf(message, VTA_MESSAGE_BYTES, "no memory");
    return NULL;
  }
  *device = (VtaDevice){-1, -1, MAP_FAILED, MAP_FAILED, 0, dram_bytes};
  if (set_up(device, message) == 0) return device;
  vta_close(device);
  return NULL;
}

void vta_close(VtaDevice *device) {
  if (device->dram != MAP_FAILED) munmap(device->dram, device->bytes);
  if (device->port != MAP_FAILED) munmap((void *)device->port, PORT_BYTES);
  if (device->dram_file >= 0) close(device->dram_file);
  if (device->port_file >= 0) close(device->port_file);
  free(device);
}

VtaDram vta_dram(VtaDevice *device) { return (VtaDram){device->dram, device->address}; }

void vta_write(VtaDevice *device, uint32_t offset, uint32_t value) {
  barrier();
  device->port[offset / 4] = value;
}

uint32_t vta_read(VtaDevice *device, uint32_t offset) {
  const uint32_t value = device->port[offset / 4];
  barrier();
  return value;
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

int vta_wait(VtaDevice *device, uint64_t timeout_us, char *message) {
  const uint64_t start = now_us();
  while (!(vta_read(device, VTA_CONTROL) & VTA_DONE)) {
    if (now_us() - start > timeout_us) {
      snprintf(message, VTA_MESSAGE_BYTES,
               "the accelerator did not finish in %" PRIu64 " us; is the bitstream built for this configuration?",
               timeout_us);
      return -1;
    }
    nanosleep(&(struct timespec){0, POLL_NS}, NULL);
  }
  return 0;
}
