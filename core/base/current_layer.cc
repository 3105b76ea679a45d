#include "core/base/current_layer.h"

#include <utility>

namespace witan {
namespace {
thread_local int layer_of_thread = -1;
}  // namespace

int current_layer() { return layer_of_thread; }

LayerScope::LayerScope(int layer) : before_(std::exchange(layer_of_thread, layer)) {}
LayerScope::~LayerScope() { layer_of_thread = before_; }

}  // namespace witan
