// Device "cuda" as far as autograd is concerned, in a CPU build of torch: a device guard and hooks
// that remember the current device of each thread and do nothing else. Tensors that say they lie
// there can be differentiated; nothing is ever computed there.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>

namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

constexpr DeviceIndex most = 8;  // autograd starts a thread for each at the first backward pass
DeviceIndex visible = 0;
thread_local DeviceIndex current = 0;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static Stream stream_of(Device device) { return Stream(Stream::DEFAULT, device); }
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device device) const override {
    Device before = getDevice();
    current = device.index();
    return before;
  }
  Device getDevice() const override { return Device(DeviceType::CUDA, current); }
  void setDevice(Device device) const override { current = device.index(); }
  void uncheckedSetDevice(Device device) const noexcept override { current = device.index(); }
  Stream getStream(Device device) const noexcept override { return stream_of(device); }
  Stream getDefaultStream(Device device) const override { return stream_of(device); }
  Stream getNewStream(Device device, int) const override { return stream_of(device); }
  Stream getStreamFromGlobalPool(Device device, bool) const override { return stream_of(device); }
  Stream exchangeStream(Stream stream) const noexcept override { return stream; }
  DeviceIndex deviceCount() const noexcept override { return most; }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const DeviceIndex) const override {}
};

struct Hooks : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return visible > 0; }
  bool isBuilt() const override { return visible > 0; }
  bool isAvailable() const override { return visible > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return visible > 0; }
  DeviceIndex deviceCount() const override { return visible; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex device) const override { current = device; }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    DeviceIndex before = current;
    current = device;
    return before;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
};

Guard guard;
const bool registered = [] {
  c10::impl::registerDeviceGuard(DeviceType::CUDA, &guard);
  return true;
}();

}  // namespace

namespace at {
using PhantomHooks = ::Hooks;
C10_REGISTER_TYPED_CLASS(CUDAHooksRegistry, "CUDAHooks", PhantomHooks)
}  // namespace at

namespace c10d {
struct PhantomTimer : Timer {  // DistributedDataParallel asks for one
  explicit PhantomTimer(c10::Device) {}
  std::optional<int64_t> measureDifference(Event, Event) override { return std::nullopt; }
};
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, PhantomTimer)
}  // namespace c10d

extern "C" {
int phantom_most() { return most; }
int phantom_visible() { return visible; }
void phantom_show(int devices) { visible = static_cast<DeviceIndex>(devices); }
int phantom_current() { return current; }
void phantom_choose(int device) { current = static_cast<DeviceIndex>(device); }
}
