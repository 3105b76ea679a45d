// What reading a config produces besides the config: where each field was written and what was
// wrong. Internal to configs/.
#pragma once

#include <map>
#include <string>

#include "configs/config_error.h"
#include "configs/load.h"

namespace witan::configs {

// "model.moe" + "experts" = "model.moe.experts"; with an index "model.moe.balance[0]".
std::string child_path(const std::string& parent, const std::string& name, int index = -1);

class Findings {
 public:
  explicit Findings(std::string file) : file_(std::move(file)) {}

  void wrote(const std::string& path, const Origin& origin) { origins_[path] = origin; }
  bool written(const std::string& path) const { return origins_.count(path) > 0; }
  // Drops a field and all below it: something replaces it.
  void forget(const std::string& path);
  // Where `path` was written, or the nearest message around it; nothing: the top of the file.
  Origin nearest(std::string path) const;

  // An error at a known place, or where the field or the message around it was written.
  void fail(const std::string& field, const std::string& message, const Origin& origin);
  void fail(const std::string& field, const std::string& message);

  // Unknown names are kept apart: they do not make the known values doubtful.
  void fail_unknown(const std::string& field, const std::string& message, const Origin& origin);
  bool values_are_sound() const { return errors_.empty(); }

  // All errors: those of the file by position, then those of the overrides in their order.
  ConfigErrors sorted_errors() const;

 private:
  ConfigError make_error(const std::string& field, const std::string& message,
                         const Origin& origin) const;

  std::string file_;
  std::map<std::string, Origin> origins_;
  ConfigErrors errors_;
  ConfigErrors unknown_;
};

}  // namespace witan::configs
