// The simulator as a device: its registers and its DRAM lie where a board's would, its time is counted in cycles.
#include "../sim/simulator.cpp"

#include <exception>
#include <vector>

#include "device.h"

namespace {

constexpr uint64_t ADDRESS = 0x38000000;  // of the DRAM; any, but not 0: programs must be relocatable
constexpr uint64_t CYCLES_PER_US = 100;   // the boards' default clock
constexpr uint64_t BYTES_PER_CYCLE = 8;   // as in simulator.py
constexpr uint64_t LATENCY = 64;

}  // namespace

struct VtaDevice {
  std::unique_ptr<Memories> memories;
  std::vector<uint8_t> dram;
  uint32_t registers[VTA_PAR / 4 + 2] = {VTA_IDLE};

  uint64_t address(uint32_t offset) const {
    return registers[offset / 4] + (uint64_t{registers[offset / 4 + 1]} << 32) - ADDRESS;
  }
};

extern "C" {

VtaDevice* vta_open(uint64_t dram_bytes, char* message) {
  try {
    std::unique_ptr<VtaDevice> device(new VtaDevice());
    device->memories.reset(new Memories());
    device->dram.resize(dram_bytes);
    return device.release();
  } catch (const std::exception& error) {
    std::snprintf(message, VTA_MESSAGE_BYTES, "the simulator has no memory: %s", error.what());
    return nullptr;
  }
}

void vta_close(VtaDevice* device) { delete device; }

VtaDram vta_dram(VtaDevice* device) { return {device->dram.data(), ADDRESS}; }

void vta_write(VtaDevice* device, uint32_t offset, uint32_t value) {
  if (offset == VTA_CONTROL) {
    device->registers[0] = (value & VTA_START) ? 0 : VTA_IDLE;
  } else {
    device->registers[offset / 4] = value;
  }
}

uint32_t vta_read(VtaDevice* device, uint32_t offset) { return device->registers[offset / 4]; }

int vta_wait(VtaDevice* device, uint64_t timeout_us, char* message) {
  const Registers registers = {device->registers[VTA_COUNT / 4], device->address(VTA_PROGRAM),
                               device->address(VTA_UOP),         device->address(VTA_INP),
                               device->address(VTA_WGT),         device->address(VTA_ACC),
                               device->address(VTA_OUT),         device->address(VTA_PAR)};
  const uint64_t cycles = std::min(timeout_us * CYCLES_PER_US, vta::most_cycles(registers.count));
  const Limits limits = {BYTES_PER_CYCLE, LATENCY, cycles};
  Counters counters;
  char reason[256] = "";
  try {
    if (vta_run(device->memories.get(), &registers, device->dram.data(), device->dram.size(), &limits, &counters,
                nullptr, reason) != 0) {
      std::snprintf(message, VTA_MESSAGE_BYTES, "VTA simulator: %.230s", reason);
      return -1;
    }
  } catch (const std::exception& error) {
    std::snprintf(message, VTA_MESSAGE_BYTES, "the simulator has no memory: %s", error.what());
    return -1;
  }
  device->registers[0] = VTA_DONE | VTA_IDLE;
  return 0;
}

}  // extern "C"
