// Where a tensor lives.
#pragma once

namespace witan {

enum class DeviceType { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;

  bool is_cpu() const { return type == DeviceType::kCpu; }
  bool is_cuda() const { return type == DeviceType::kCuda; }
  friend bool operator==(const Device&, const Device&) = default;
};

constexpr const char* name_of(DeviceType type) { return type == DeviceType::kCpu ? "CPU" : "CUDA"; }

}  // namespace witan
