// Runs the programs of a file (tests/targets/vta/fuzzed.py writes it) on the simulator, each in a DRAM of exactly its
// size, and prints how each one ended: its cycles or the error, and a hash of the DRAM. The last line is a hash of the
// on-chip memories. Usage: programs FILE.
#include <cstdio>
#include <vector>

#include "sim/simulator.cpp"

namespace {

// How a program begins in the file; its instructions follow.
struct Record {
  Registers registers;
  Limits limits;
  uint64_t dram_bytes, seed;
};

uint64_t next(uint64_t& state) {  // xorshift64
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

uint64_t hash(const uint8_t* data, size_t bytes, uint64_t start) {  // FNV-1a
  for (size_t i = 0; i < bytes; ++i) start = (start ^ data[i]) * 0x100000001b3;
  return start;
}

}  // namespace

int main(int count, char** arguments) {
  std::FILE* file = count == 2 ? std::fopen(arguments[1], "rb") : nullptr;
  if (file == nullptr) return 2;
  Memories* memories = vta_create();
  Record record;
  while (std::fread(&record, sizeof record, 1, file) == 1) {
    std::vector<uint8_t> dram(record.dram_bytes);
    for (uint8_t& byte : dram) byte = static_cast<uint8_t>(next(record.seed));
    const size_t bytes = record.registers.count * vta::INSTRUCTION_BYTES;
    if (std::fread(dram.data() + record.registers.program, 1, bytes, file) != bytes) return 2;
    std::vector<Event> events(record.registers.count);
    Counters counters;
    char message[256] = "";
    const int failed = vta_run(memories, &record.registers, dram.data(), dram.size(), &record.limits, &counters,
                               events.data(), message);
    if (!failed) std::snprintf(message, sizeof message, "%llu", static_cast<unsigned long long>(counters.cycles));
    std::printf("%s: %016llx\n", message,
                static_cast<unsigned long long>(hash(dram.data(), dram.size(), 0xcbf29ce484222325)));
  }
  std::printf("%016llx\n", static_cast<unsigned long long>(hash(reinterpret_cast<const uint8_t*>(memories),
                                                                sizeof *memories, 0xcbf29ce484222325)));
  vta_destroy(memories);
  return std::fclose(file);
}
