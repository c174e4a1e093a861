/* What the driver needs of a machine: its accelerator and memory that both see.
   linux.c implements it for boards, simulator.cpp for the simulator. No function may be called from two threads at the
   same time. Functions that can fail take a message of VTA_MESSAGE_BYTES and write the reason there. */
#ifndef SQUEEZEEDGE_VTA_DEVICE_H
#define SQUEEZEEDGE_VTA_DEVICE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { VTA_MESSAGE_BYTES = 256 };

/* Offsets in the control port; all but the instruction count are byte addresses of 64 bits, low word first. */
enum {
  VTA_CONTROL = 0x00,
  VTA_COUNT = 0x10,
  VTA_PROGRAM = 0x20,
  VTA_UOP = 0x30,
  VTA_INP = 0x40,
  VTA_WGT = 0x50,
  VTA_ACC = 0x60,
  VTA_OUT = 0x70,
  VTA_PAR = 0x80
};

/* Bits of the control register. A program starts when START is written. */
enum { VTA_START = 1, VTA_DONE = 2, VTA_IDLE = 4 };

typedef struct VtaDevice VtaDevice;

/* Memory that processor and accelerator share, without a cache between them. */
typedef struct {
  uint8_t *data;    /* where the processor sees it */
  uint64_t address; /* where the accelerator sees it; a multiple of 16 */
} VtaDram;

/* Takes the accelerator and so many bytes of DRAM. Null after an error. */
VtaDevice *vta_open(uint64_t dram_bytes, char *message);

void vta_close(VtaDevice *device);

VtaDram vta_dram(VtaDevice *device);

void vta_write(VtaDevice *device, uint32_t offset, uint32_t value);

uint32_t vta_read(VtaDevice *device, uint32_t offset);

/* Waits for a started program. 0, or -1 if it failed or took longer: then the accelerator must not be started again. */
int vta_wait(VtaDevice *device, uint64_t timeout_us, char *message);

#ifdef __cplusplus
}
#endif

#endif /* SQUEEZEEDGE_VTA_DEVICE_H */
