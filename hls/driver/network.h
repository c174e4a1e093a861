/* One compiled network on whatever device.h opens. The network itself is the generated model.h (targets/vta/lower/byoc.py). */
#ifndef SQUEEZEEDGE_VTA_NETWORK_H
#define SQUEEZEEDGE_VTA_NETWORK_H

#include <stdint.h>

/* A register and its value; a 64-bit one counts from the start of the DRAM. */
typedef struct {
  uint32_t offset;
  uint32_t value;
} VtaRegister;

/* What a region holds before the first run. */
typedef struct {
  uint64_t offset, bytes;
  uint8_t value;
} VtaFill;

/* A region that takes patches of the image, one for every output position of a convolution: int8 [blocks, height,
   width, block]. Channel c of tap (ky, kx) is value (ky * kernel_w + kx) * 3 + c, in lane value % block of block
   value / block; lanes that are left over are 0. */
typedef struct {
  uint64_t offset;
  uint32_t kernel_h, kernel_w, stride_h, stride_w, top, left;
  uint32_t blocks, height, width, block;
  uint8_t pad_value[3];
} VtaPacking;

/* image: uint8 [height][width][3]; sums: int32 [classes]: class sums, NOT LOGITS. Each class has a scale of its own,
   so do not compare them between classes, the largest sum is often not the answer: logit[c] = (float)sums[c] *
   logit_scale[c], which is in the artifact's manifest.json. Opens the device at the first call and keeps it.
   0, or -1 after an error with its text in message (VTA_MESSAGE_BYTES). Any thread may call it. */
int vta_class_sums(const uint8_t *image, int32_t *sums, char *message);

#endif /* SQUEEZEEDGE_VTA_NETWORK_H */
