/* What the function that TVM compiles for the network calls; tvm.c and not the caller knows how TVM takes errors. */
#include <tvm/ffi/c_api.h>

#include "device.h"
#include "network.h"

/* Class sums, which network.h explains. 0, or -1 with the error set as this thread's. */
int squeezeedge_vta_class_sums(const uint8_t *image, int32_t *sums) {
  char message[VTA_MESSAGE_BYTES] = "";
  const int status = vta_class_sums(image, sums, message);
  if (status != 0) TVMFFIErrorSetRaisedFromCStr("RuntimeError", message);
  return status;
}
