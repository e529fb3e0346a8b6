// Crops to parameters in C++, from the package that AOTInductor makes of parameters.pt2 (docs/deploy.md).
//
// T=$(python -c "import torch, os; print(os.path.dirname(torch.__file__))")
// g++ -std=c++20 crops_in_cpp.cpp -o crops -I$T/include -I$T/include/torch/csrc/api/include -L$T/lib
//     -ltorch -ltorch_cpu -lc10 -Wl,-rpath,$T/lib          (one line)
// ./crops parameters.aoti.pt2

#include <iostream>
#include <vector>

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " parameters.aoti.pt2" << std::endl;
    return 2;
  }
  c10::InferenceMode mode;
  torch::inductor::AOTIModelPackageLoader network(argv[1]);
  // [B, 3, S, S], RGB in [0, 1]; S as in model.json. Yours come from a photo.
  const at::Tensor crops = torch::rand({2, 3, 192, 192});
  // shape, expression, jaw, camera, texture, light, log_sigma, tokens
  const std::vector<at::Tensor> outputs = network.run({crops});
  std::cout << "shape " << outputs[0].sizes() << ", camera of the first crop\n" << outputs[3][0] << std::endl;
}
