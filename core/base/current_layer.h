// Which layer of the model this thread is working on, for reports that need the place of what
// happens far below: growth of memory, the profile.
#pragma once

namespace witan {

// -1: none (embedding, head, optimizer, ...).
int current_layer();

// Sets the layer while it lives.
class LayerScope {
 public:
  explicit LayerScope(int layer);
  ~LayerScope();
  LayerScope(const LayerScope&) = delete;
  LayerScope& operator=(const LayerScope&) = delete;

 private:
  int before_;
};

}  // namespace witan
