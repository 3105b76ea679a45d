// One decoder layer's requests to the arenas (core/model/decoder_layer.cc and what it calls).
#pragma once

#include "launch/plan/activations.h"

namespace witan {

class LayerArenas {
 public:
  LayerArenas(const PlanSubject& subject, const PlanLayout& layout, const RoutedRows& rows,
              bool windows, ActivationArenas& arenas)
      : subject_(subject),
        dims_(subject.dims),
        layout_(layout),
        rows_(rows),
        windows_(windows),
        arenas_(arenas) {}

  // `keep_choice`: recomputed, with the routing of before.
  void forward(bool moe, bool keep_choice);
  void backward(bool moe);

  void norm(ArenaCount& arena);
  void attention_forward();
  void feed_forward(bool moe, bool keep_choice);

 private:
  void attention_backward();
  void latent_forward();
  void latent_backward();
  void ffn_forward(std::int64_t d_ff);
  void shared_forward();
  void shared_backward();
  void router_forward(bool keep_choice);
  void router_backward();
  void exchange_plan();
  void balance();
  void experts_up(ArenaCount& arena);
  void experts_forward();
  void experts_backward();
  void moe_forward(bool keep_choice);
  void moe_backward();

  // Elements of an activation.
  void take(ArenaCount& arena, std::int64_t elements) {
    arena.allocate(elements, subject_.activation_bytes);
  }
  void take_operands(ArenaCount& arena, std::int64_t elements) {
    arena.allocate(elements, subject_.operand_bytes);
  }
  void take_indices(ArenaCount& arena, std::int64_t count) { arena.allocate(count, 4); }
  const configs::ModelConfig& model() const { return subject_.run.model(); }
  bool alone() const { return layout_.expert_parallel == 1; }
  bool learned_noise() const;
  // Of one of the chunks that travel apart.
  std::int64_t of_chunk(std::int64_t rows) const;
  std::int64_t up_width() const;

  const PlanSubject& subject_;
  const ModelDims& dims_;
  const PlanLayout& layout_;
  const RoutedRows& rows_;
  bool windows_;
  ActivationArenas& arenas_;
};

}  // namespace witan
